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

{{- define "kafkatrace.env" -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml -}}
{{- $tls := include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls") -}}
- name: NODE_ENV
  value: {{ ternary "development" "production" (eq (include "kafkatrace.environment" .) "development") }}
- name: LOG_FORMAT
  value: json
- name: OPS_PORT
  value: {{ include "kafkatrace.opsPort" . | quote }}
- name: KAFKA_BROKERS
  value: {{ $kafka.brokers | quote }}
- name: KAFKA_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol }}
{{- if hasPrefix "sasl_" $kafka.securityProtocol }}
{{- $sasl := include "kafkatrace.material.name" (list . $kafka.sasl "kafka-sasl") }}
- name: KAFKA_SASL_MECHANISM
  value: {{ $kafka.sasl.mechanism }}
- name: KAFKA_SASL_USERNAME
  {{- include "kafkatrace.env.fromSecret" (list $sasl "username") | nindent 2 }}
- name: KAFKA_SASL_PASSWORD
  {{- include "kafkatrace.env.fromSecret" (list $sasl "password") | nindent 2 }}
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
{{- if eq .Chart.Name "producer" }}
- name: AUTH
  value: {{ ternary "on" "off" .Values.auth.enabled | quote }}
{{- if .Values.auth.enabled }}
- name: TENANTS_FILE
  value: /etc/kafkatrace/tenants/tenants.json
{{- end }}
{{- else }}
- name: INSTANCE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- with .Values.referenceTable }}
{{- if or .content .existingConfigMap }}
- name: REFERENCE_TABLE_FILE
  value: /etc/kafkatrace/reference/{{ .fileName }}
- name: REFERENCE_TABLE_KEY_COLUMN
  value: {{ .keyColumn | quote }}
- name: REFERENCE_TABLE_ATTRIBUTE
  value: {{ .attribute | quote }}
{{- end }}
{{- end }}
{{- end }}
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
{{- if include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls") }}
- name: kafka-tls
  mountPath: /etc/kafkatrace/kafka-tls
  readOnly: true
{{- end }}
{{- if and (eq .Chart.Name "producer") .Values.auth.enabled }}
- name: tenants
  mountPath: /etc/kafkatrace/tenants
  readOnly: true
{{- end }}
{{- if .Values.referenceTable }}{{ if or .Values.referenceTable.content .Values.referenceTable.existingConfigMap }}
- name: reference
  mountPath: /etc/kafkatrace/reference
  readOnly: true
{{- end }}{{ end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kafkatrace.volumes" -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls") }}
- name: kafka-tls
  secret:
    secretName: {{ . }}
    # Readable by the group alone, which is fsGroup.
    defaultMode: 288
{{- end }}
{{- if and (eq .Chart.Name "producer") .Values.auth.enabled }}
- name: tenants
  secret:
    secretName: {{ include "kafkatrace.material.name" (list . .Values.tenants "tenants") }}
    defaultMode: 288
{{- end }}
{{- with .Values.referenceTable }}{{ if or .content .existingConfigMap }}
- name: reference
  configMap:
    name: {{ .existingConfigMap | default (printf "%s-reference" (include "kafkatrace.fullname" $)) }}
{{- end }}{{ end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Restricted Pod Security Standard. The user is the image's. */}}
{{- define "kafkatrace.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
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

{{- define "kafkatrace.podTemplate" -}}
metadata:
  labels:
    {{- include "kafkatrace.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The environment is part of this template; what it cannot see are the contents of the Secrets that the chart makes.
    checksum/config: {{ include "kafkatrace.secrets" (list . dict) | sha256sum }}
    kubectl.kubernetes.io/default-container: {{ .Chart.Name }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "kafkatrace.serviceAccount.name" . }}
  automountServiceAccountToken: false
  # Variables named after every Service of the namespace would only be a way to be misconfigured.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "kafkatrace.graceSeconds" . }}
  securityContext:
    {{- include "kafkatrace.podSecurityContext" . | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- $revision := ternary "pod-template-hash" "controller-revision-hash" (eq .Chart.Name "producer") }}
    {{- range $key, $unsatisfiable := dict "topology.kubernetes.io/zone" .Values.topologySpread.zone "kubernetes.io/hostname" .Values.topologySpread.host }}
    - topologyKey: {{ $key }}
      maxSkew: 1
      whenUnsatisfiable: {{ $unsatisfiable }}
      # Each revision is spread by itself, or the old pods of a roll-out would push the new ones together.
      matchLabelKeys: [{{ $revision }}]
      labelSelector:
        matchLabels:
          {{- include "kafkatrace.selector" $ | nindent 10 }}
    {{- end }}
  containers:
    - name: {{ .Chart.Name }}
      image: {{ include "kafkatrace.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- include "kafkatrace.securityContext" . | nindent 8 }}
      env:
        {{- include "kafkatrace.env" . | nindent 8 }}
      ports:
        {{- if eq .Chart.Name "producer" }}
        - name: http
          containerPort: 8080
        {{- end }}
        - name: ops
          containerPort: {{ include "kafkatrace.opsPort" . }}
      {{- range $probe, $path := dict "startupProbe" "/startupz" "livenessProbe" "/livez" "readinessProbe" "/readyz" }}
      {{ $probe }}:
        httpGet:
          path: {{ $path }}
          port: ops
        {{- toYaml (index $.Values.probes (trimSuffix "Probe" $probe)) | nindent 8 }}
      {{- end }}
      {{- if .Values.shutdown.preStopSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ .Values.shutdown.preStopSeconds }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "kafkatrace.mounts" . | nindent 8 }}
  volumes:
    {{- include "kafkatrace.volumes" . | nindent 4 }}
{{- end -}}
