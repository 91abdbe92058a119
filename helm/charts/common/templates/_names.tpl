{{/* Unique within a namespace; a release that is named like the chart is not named twice. */}}
{{- define "kafkatrace.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a selector may name: nothing that changes with a version, since selectors cannot change. */}}
{{- define "kafkatrace.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kafkatrace.labels" -}}
{{ include "kafkatrace.selector" . }}
app.kubernetes.io/part-of: kafkatrace
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kafkatrace.metadata" -}}
name: {{ include "kafkatrace.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "kafkatrace.labels" . | nindent 2 }}
{{- end -}}

{{- define "kafkatrace.serviceAccount.name" -}}
{{- default (ternary (include "kafkatrace.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* A digest names one image for ever; a tag can be moved. */}}
{{- define "kafkatrace.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kafkatrace.opsPort" -}}{{ ternary 9080 9081 (eq .Chart.Name "producer") }}{{- end -}}

{{/* What holds for all services of a release stands in `global`, and wins. */}}
{{- define "kafkatrace.environment" -}}
{{- dig "environment" .Values.environment (.Values.global | default dict) -}}
{{- end -}}

{{- define "kafkatrace.kafka" -}}
{{- mergeOverwrite (deepCopy .Values.kafka) (deepCopy (dig "kafka" dict (.Values.global | default dict))) | toYaml -}}
{{- end -}}


{{/* The fewest pods that there may be. */}}
{{- define "kafkatrace.minReplicas" -}}
{{- if .Values.hpa.enabled -}}{{ .Values.hpa.minReplicas }}
{{- else if and .Values.keda .Values.keda.enabled -}}{{ .Values.keda.minReplicas }}
{{- else -}}{{ .Values.replicas | default 2 }}{{- end -}}
{{- end -}}

{{/* The most pods that there may be. */}}
{{- define "kafkatrace.maxReplicas" -}}
{{- if .Values.hpa.enabled -}}{{ .Values.hpa.maxReplicas }}
{{- else if and .Values.keda .Values.keda.enabled -}}{{ .Values.keda.maxReplicas }}
{{- else -}}{{ .Values.replicas | default 2 }}{{- end -}}
{{- end -}}
