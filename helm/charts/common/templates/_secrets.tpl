{{/*
A material is what must not stand in the pod's specification: Kafka's user, TLS files, tenants. It comes from exactly one of
`existingSecret`, `externalSecret` (a key of the store) and `values` (for development).
Takes (list context material suffix); gives the Secret's name, or nothing when the material is not configured.
*/}}
{{- define "kafkatrace.material.name" -}}
{{- $material := index . 1 -}}
{{- if $material.existingSecret -}}{{ $material.existingSecret }}
{{- else if or $material.externalSecret $material.values -}}{{ include "kafkatrace.fullname" (index . 0) }}-{{ index . 2 }}
{{- end -}}
{{- end -}}

{{/* Takes (list context material suffix annotations). */}}
{{- define "kafkatrace.material.object" -}}
{{- $context := index . 0 -}}{{- $material := index . 1 -}}
{{- if $material.externalSecret }}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  name: {{ include "kafkatrace.material.name" (list $context $material (index . 2)) }}
  namespace: {{ $context.Release.Namespace }}
  labels:
    {{- include "kafkatrace.labels" $context | nindent 4 }}
  {{- with index . 3 }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  refreshInterval: {{ $context.Values.secretStore.refreshInterval }}
  secretStoreRef:
    kind: {{ $context.Values.secretStore.kind }}
    name: {{ $context.Values.secretStore.name }}
  target:
    name: {{ include "kafkatrace.material.name" (list $context $material (index . 2)) }}
    creationPolicy: Owner
  dataFrom:
    - extract:
        key: {{ $material.externalSecret }}
{{- else if $material.values }}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "kafkatrace.material.name" (list $context $material (index . 2)) }}
  namespace: {{ $context.Release.Namespace }}
  labels:
    {{- include "kafkatrace.labels" $context | nindent 4 }}
  {{- with index . 3 }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
type: Opaque
stringData:
  {{- toYaml $material.values | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes (list context annotations). */}}
{{- define "kafkatrace.secrets" -}}
{{- $context := index . 0 -}}{{- $kafka := include "kafkatrace.kafka" $context | fromYaml -}}
{{- include "kafkatrace.material.object" (list $context $kafka.sasl "kafka-sasl" (index . 1)) }}
{{- include "kafkatrace.material.object" (list $context $kafka.tls "kafka-tls" (index . 1)) }}
{{- if eq $context.Chart.Name "producer" }}
{{- include "kafkatrace.material.object" (list $context $context.Values.tenants "tenants" (index . 1)) }}
{{- end }}
{{- end -}}
