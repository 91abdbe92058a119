{{/* Everything of a service. */}}
{{- define "kafkatrace.service" -}}
{{- include "kafkatrace.refusals" . -}}
{{- $producer := eq .Chart.Name "producer" -}}
{{- $name := include "kafkatrace.fullname" . -}}
{{- $autoscaled := or .Values.hpa.enabled (and .Values.keda .Values.keda.enabled) -}}
{{- $kind := ternary "Deployment" "StatefulSet" $producer -}}
apiVersion: apps/v1
kind: {{ $kind }}
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  {{- if not $autoscaled }}
  replicas: {{ .Values.replicas | default 2 }}
  {{- end }}
  {{- if $producer }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 1
  {{- else }}
  # Pods of a StatefulSet keep their names, and a name is never used twice at a time: that is what INSTANCE_ID asks for.
  serviceName: {{ $name }}-ops
  podManagementPolicy: Parallel
  {{- end }}
  revisionHistoryLimit: 5
  selector:
    matchLabels:
      {{- include "kafkatrace.selector" . | nindent 6 }}
  template:
    {{- include "kafkatrace.podTemplate" . | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}-ops
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "kafkatrace.labels" . | nindent 4 }}
    kafkatrace.dev/service: ops
spec:
  clusterIP: None
  # A pod that is not ready is the one whose metrics are wanted.
  publishNotReadyAddresses: true
  selector:
    {{- include "kafkatrace.selector" . | nindent 4 }}
  ports:
    - {name: ops, port: {{ include "kafkatrace.opsPort" . }}, targetPort: ops}
{{- if .Values.serviceAccount.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
{{- if .Values.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody; it must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "kafkatrace.selector" . | nindent 6 }}
{{- end }}
{{- if .Values.hpa.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ $kind }}
    name: {{ $name }}
  minReplicas: {{ .Values.hpa.minReplicas }}
  maxReplicas: {{ .Values.hpa.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .Values.hpa.cpuUtilizationPercent }}
  behavior:
    {{- toYaml .Values.hpa.behavior | nindent 4 }}
{{- end }}
{{- if and .Values.keda .Values.keda.enabled }}
{{- include "kafkatrace.keda" . }}
{{- end }}
{{- if .Values.networkPolicy.enabled }}
---
{{ include "kafkatrace.networkPolicy" . }}
{{- end }}
{{- if .Values.serviceMonitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
    {{- with .Values.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # The scrape job is named after the service: "producer" or "consumer".
  jobLabel: app.kubernetes.io/name
  selector:
    matchLabels:
      {{- include "kafkatrace.selector" . | nindent 6 }}
      kafkatrace.dev/service: ops
  endpoints:
    - port: ops
      interval: {{ .Values.serviceMonitor.interval }}
{{- end }}
{{- include "kafkatrace.secrets" (list . dict) }}
{{- if $producer }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  selector:
    {{- include "kafkatrace.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 80, targetPort: http, appProtocol: http}
{{- if .Values.ingress.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
  {{- with .Values.ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .Values.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .Values.ingress.tlsSecret }}
  tls:
    - secretName: {{ . }}
      hosts:
        {{- toYaml $.Values.ingress.hosts | nindent 8 }}
  {{- end }}
  rules:
    {{- range .Values.ingress.hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ $name }}
                port:
                  name: http
    {{- end }}
{{- end }}
{{- if .Values.httpRoute.enabled }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  parentRefs:
    {{- toYaml .Values.httpRoute.parentRefs | nindent 4 }}
  {{- with .Values.httpRoute.hostnames }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - backendRefs:
        - name: {{ $name }}
          port: 80
{{- end }}
{{- else if .Values.referenceTable.content }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}-reference
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "kafkatrace.labels" . | nindent 4 }}
data:
  {{ .Values.referenceTable.fileName }}: {{ .Values.referenceTable.content | quote }}
{{- end }}
---
{{ include "kafkatrace.test" . }}
{{- range .Values.extraObjects }}
---
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Selecting the pods denies them everything; what follows is all that they may. An empty list of peers opens nothing: no rule is made of it. */}}
{{- define "kafkatrace.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "kafkatrace.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if eq .Chart.Name "producer" }}
    {{- with .Values.networkPolicy.gateway }}
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - {protocol: TCP, port: 8080}
    {{- end }}
    {{- end }}
    {{- with .Values.networkPolicy.monitoring }}
    - from:
        {{- toYaml . | nindent 8 }}
      ports:
        - {protocol: TCP, port: {{ include "kafkatrace.opsPort" $ }}}
    {{- end }}
    - from:
        - podSelector:
            matchLabels:
              app.kubernetes.io/name: {{ .Chart.Name }}-test
              app.kubernetes.io/instance: {{ .Release.Name }}
      ports:
        - {protocol: TCP, port: {{ include "kafkatrace.opsPort" . }}}
  egress:
    {{- include "kafkatrace.egress" . | nindent 4 }}
{{- end -}}

{{- define "kafkatrace.egress" -}}
{{- with .Values.networkPolicy.dns }}
- to:
    {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: UDP, port: 53}
    # Answers that are too long for a datagram.
    - {protocol: TCP, port: 53}
{{- end }}
{{- with .Values.networkPolicy.kafka.peers }}
- to:
    {{- toYaml . | nindent 4 }}
  ports:
    {{- range $.Values.networkPolicy.kafka.ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kafkatrace.keda" -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml }}
{{- $sasl := include "kafkatrace.material.name" (list . $kafka.sasl "kafka-sasl") }}
{{- $tls := include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls") }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: StatefulSet
    name: {{ include "kafkatrace.fullname" . }}
  minReplicaCount: {{ .Values.keda.minReplicas }}
  maxReplicaCount: {{ .Values.keda.maxReplicas }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        {{- toYaml .Values.keda.behavior | nindent 8 }}
  triggers:
    - type: kafka
      metadata:
        bootstrapServers: {{ $kafka.brokers | quote }}
        consumerGroup: {{ dig "GROUP_ID" "kafkatrace" .Values.config | quote }}
        lagThreshold: {{ .Values.keda.lagThreshold | int | quote }}
        # More pods than partitions would only idle.
        allowIdleConsumers: "false"
        {{- if hasSuffix "ssl" $kafka.securityProtocol }}
        tls: enable
        {{- end }}
        {{- if hasPrefix "sasl_" $kafka.securityProtocol }}
        sasl: {{ get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") $kafka.sasl.mechanism }}
        {{- end }}
      {{- if or $sasl $tls }}
      authenticationRef:
        name: {{ include "kafkatrace.fullname" . }}
      {{- end }}
{{- if or $sasl $tls }}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
spec:
  secretTargetRef:
    {{- if $sasl }}
    - {parameter: username, name: {{ $sasl }}, key: username}
    - {parameter: password, name: {{ $sasl }}, key: password}
    {{- end }}
    {{- if $tls }}
    - {parameter: ca, name: {{ $tls }}, key: ca.crt}
    {{- if $kafka.tls.clientCertificate }}
    - {parameter: cert, name: {{ $tls }}, key: tls.crt}
    - {parameter: key, name: {{ $tls }}, key: tls.key}
    - {parameter: keyPassword, name: {{ $tls }}, key: key.password}
    {{- end }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* `helm test`: asks the operations port, as the kubelet does, but through the Service's name and the network policies. */}}
{{- define "kafkatrace.test" -}}
{{- $labels := dict "app.kubernetes.io/name" (printf "%s-test" .Chart.Name) "app.kubernetes.io/instance" .Release.Name "app.kubernetes.io/part-of" "kafkatrace" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "kafkatrace.fullname" . }}-test
  namespace: {{ .Release.Namespace }}
  labels:
    {{- toYaml $labels | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    {{- include "kafkatrace.podSecurityContext" . | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: test
      image: {{ include "kafkatrace.image" . | quote }}
      command:
        - bun
        - -e
        - |
          const answer = await fetch('http://{{ include "kafkatrace.fullname" . }}-ops:{{ include "kafkatrace.opsPort" . }}/readyz')
          console.log(answer.status, await answer.text())
          process.exit(answer.ok ? 0 : 1)
      securityContext:
        {{- include "kafkatrace.securityContext" . | nindent 8 }}
      resources:
        requests: {cpu: 50m, memory: 128Mi}
        limits: {memory: 128Mi}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 16Mi}
{{- if .Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "kafkatrace.fullname" . }}-test
  namespace: {{ .Release.Namespace }}
  labels:
    {{- toYaml $labels | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- toYaml $labels | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
    {{- with .Values.networkPolicy.dns }}
    - to:
        {{- toYaml . | nindent 8 }}
      ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
    {{- end }}
    - to:
        - podSelector:
            matchLabels:
              {{- include "kafkatrace.selector" . | nindent 14 }}
      ports:
        - {protocol: TCP, port: {{ include "kafkatrace.opsPort" . }}}
{{- end }}
{{- end -}}
