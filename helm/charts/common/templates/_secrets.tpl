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

{{/* The Secret that the chart makes of a material, if any. Takes (list context material suffix annotations). */}}
{{- define "kafkatrace.material.object" -}}
{{- $context := index . 0 -}}{{- $material := index . 1 -}}
{{- $name := include "kafkatrace.material.name" (list $context $material (index . 2)) -}}
{{- if $material.externalSecret }}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  {{- include "kafkatrace.metadata.named" (list $context $name) | nindent 2 }}
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
    name: {{ $name }}
    creationPolicy: Owner
  dataFrom:
    - extract:
        key: {{ $material.externalSecret }}
{{- else if $material.values }}
---
apiVersion: v1
kind: Secret
metadata:
  {{- include "kafkatrace.metadata.named" (list $context $name) | nindent 2 }}
  {{- with index . 3 }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
type: Opaque
stringData:
  {{- toYaml $material.values | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Kafka's, and the service's own certificate. Takes (list context annotations). */}}
{{- define "kafkatrace.secrets" -}}
{{- $kafka := include "kafkatrace.kafka" (index . 0) | fromYaml -}}
{{- include "kafkatrace.material.object" (list (index . 0) $kafka.sasl "kafka-sasl" (index . 1)) }}
{{- include "kafkatrace.material.object" (list (index . 0) $kafka.tls "kafka-tls" (index . 1)) }}
{{- include "kafkatrace.material.object" (list (index . 0) ((index . 0).Values.tls | default dict) "tls" (index . 1)) }}
{{- end -}}
