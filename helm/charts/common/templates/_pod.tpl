{{/* Numbers of a values file are floats to a template, which would write large ones with an exponent. */}}
{{- define "kafkatrace.env.value" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ printf "%d" (int64 .) | quote }}{{- else -}}{{ toString . | quote }}{{- end -}}
{{- end -}}

{{- define "kafkatrace.env.fromSecret" -}}
valueFrom:
  secretKeyRef:
    name: {{ index . 0 }}
    key: {{ index . 1 }}
{{- end -}}

{{/* What every service is told. Takes (list context opsPort). */}}
{{- define "kafkatrace.env" -}}
{{- $opsPort := index . 1 -}}
{{- with index . 0 -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml -}}
{{- $tls := include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls") -}}
- name: NODE_ENV
  value: {{ ternary "development" "production" (eq (include "kafkatrace.environment" .) "development") }}
- name: LOG_FORMAT
  value: json
- name: OPS_PORT
  value: {{ $opsPort | quote }}
- name: KAFKA_BROKERS
  value: {{ $kafka.brokers | quote }}
- name: KAFKA_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol }}
{{- if hasPrefix "sasl_" $kafka.securityProtocol }}
- name: KAFKA_SASL_MECHANISM
  value: {{ $kafka.sasl.mechanism }}
{{- if eq $kafka.sasl.mechanism "OAUTHBEARER" }}
- name: KAFKA_OAUTH_TOKEN_URL
  value: {{ $kafka.oauth.tokenUrl | quote }}
- name: KAFKA_OAUTH_CLIENT_ID
  value: {{ $kafka.oauth.clientId | quote }}
- name: KAFKA_OAUTH_CLIENT_SECRET_FILE
  value: /etc/kafkatrace/kafka-sasl/client-secret
{{- with $kafka.oauth.scope }}
- name: KAFKA_OAUTH_SCOPE
  value: {{ . | quote }}
{{- end }}
{{- with $kafka.oauth.extensions }}
- name: KAFKA_OAUTH_EXTENSIONS
  value: {{ . | quote }}
{{- end }}
{{- if $kafka.oauth.ca }}
- name: KAFKA_OAUTH_CA_FILE
  value: /etc/kafkatrace/kafka-sasl/issuer.crt
{{- end }}
{{- else if eq $kafka.sasl.mechanism "AWS_MSK_IAM" }}
- name: AWS_REGION
  value: {{ $kafka.awsRegion | quote }}
{{- else }}
- name: KAFKA_SASL_USERNAME_FILE
  value: /etc/kafkatrace/kafka-sasl/username
- name: KAFKA_SASL_PASSWORD_FILE
  value: /etc/kafkatrace/kafka-sasl/password
{{- end }}
{{- end }}
{{- if $tls }}
- name: KAFKA_SSL_CA_FILE
  value: /etc/kafkatrace/kafka-tls/ca.crt
{{- if $kafka.tls.clientCertificate }}
- name: KAFKA_SSL_CERTIFICATE_FILE
  value: /etc/kafkatrace/kafka-tls/tls.crt
- name: KAFKA_SSL_KEY_FILE
  value: /etc/kafkatrace/kafka-tls/tls.key
- name: KAFKA_SSL_KEY_PASSWORD
  {{- include "kafkatrace.env.fromSecret" (list $tls "key.password") | nindent 2 }}
      optional: true
{{- end }}
{{- end }}
{{- include "kafkatrace.tls.env" . }}
{{- end -}}
{{- end -}}

{{/* What the values add. */}}
{{- define "kafkatrace.env.own" -}}
{{- range $name, $value := .Values.config }}
- name: {{ $name }}
  value: {{ include "kafkatrace.env.value" $value }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kafkatrace.mounts" -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml -}}
- name: tmp
  mountPath: /tmp
# Folders, since a single file of a Secret that is mounted does not change.
{{- range $suffix, $material := dict "kafka-sasl" $kafka.sasl "kafka-tls" $kafka.tls }}
{{- if include "kafkatrace.material.name" (list $ $material $suffix) }}
- name: {{ $suffix }}
  mountPath: /etc/kafkatrace/{{ $suffix }}
  readOnly: true
{{- end }}
{{- end }}
{{- include "kafkatrace.tls.mounts" . }}
{{- end -}}

{{- define "kafkatrace.volumes" -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- range $suffix, $material := dict "kafka-sasl" $kafka.sasl "kafka-tls" $kafka.tls }}
{{- with include "kafkatrace.material.name" (list $ $material $suffix) }}
- name: {{ $suffix }}
  secret:
    secretName: {{ . }}
    # Only fsGroup may read it.
    defaultMode: 288
{{- end }}
{{- end }}
{{- include "kafkatrace.tls.volumes" . }}
{{- end -}}

{{/* Restricted Pod Security Standard. The user is the image's, but on OpenShift, which gives each namespace users of its own and refuses others. */}}
{{- define "kafkatrace.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "kafkatrace.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* preStop, then DRAIN_TIMEOUT_MS (in which the process commits, or ends itself), then the last log lines: never killed while it works. */}}
{{- define "kafkatrace.graceSeconds" -}}
{{- $drain := dig "DRAIN_TIMEOUT_MS" 15000 .Values.config | int64 -}}
{{- add .Values.shutdown.preStopSeconds (div (add $drain 999) 1000) .Values.shutdown.marginSeconds -}}
{{- end -}}

{{/* Takes (list context secrets): what the chart makes of its materials, as text. */}}
{{- define "kafkatrace.pod.metadata" -}}
{{- $secrets := index . 1 -}}
{{- with index . 0 -}}
labels:
  {{- include "kafkatrace.labels" . | nindent 2 }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # A change of the environment rolls the pods anyway. This covers the contents of Secrets that the chart creates.
  checksum/config: {{ sha256sum $secrets }}
  kubectl.kubernetes.io/default-container: {{ .Chart.Name }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Of a job's pod, which what rolls pods out does not concern. Takes (list context labels). */}}
{{- define "kafkatrace.pod.job.metadata" -}}
{{- $labels := index . 1 -}}
{{- with index . 0 -}}
labels:
  {{- $labels | nindent 2 }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Which nodes take a pod, and what it displaces there. Empty, or begins with a new line. */}}
{{- define "kafkatrace.pod.placement" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* All but containers and volumes. Takes (list context revision): the label that pods of one revision share. */}}
{{- define "kafkatrace.pod.spec" -}}
{{- $revision := index . 1 -}}
{{- with $context := index . 0 -}}
serviceAccountName: {{ include "kafkatrace.serviceAccount.name" . }}
automountServiceAccountToken: false
# Variables named after the namespace's Services could only override settings by accident.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "kafkatrace.graceSeconds" . }}
securityContext:
  {{- include "kafkatrace.podSecurityContext" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "kafkatrace.pod.placement" . }}
topologySpreadConstraints:
  {{- range $key, $unsatisfiable := dict "topology.kubernetes.io/zone" .Values.topologySpread.zone "kubernetes.io/hostname" .Values.topologySpread.host }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: {{ $unsatisfiable }}
    # Spread each revision separately. Otherwise the old pods of a roll-out decide where the new ones go.
    matchLabelKeys: [{{ $revision }}]
    labelSelector:
      matchLabels:
        {{- include "kafkatrace.selector" $context | nindent 8 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* How a container is watched, stopped and bounded. */}}
{{- define "kafkatrace.container.life" -}}
{{- range $probe, $path := dict "startupProbe" "/startupz" "livenessProbe" "/livez" "readinessProbe" "/readyz" }}
{{ $probe }}:
  httpGet:
    path: {{ $path }}
    port: ops
    {{- if include "kafkatrace.tls.ops" $ }}
    scheme: HTTPS
    {{- end }}
  {{- toYaml (index $.Values.probes (trimSuffix "Probe" $probe)) | nindent 2 }}
{{- end }}
{{- if .Values.shutdown.preStopSeconds }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ .Values.shutdown.preStopSeconds }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}
