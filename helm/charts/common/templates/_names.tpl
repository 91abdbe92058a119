{{/* Unique within a namespace, so that of a long name the release's part is cut; a release that is named like the chart is not named twice. */}}
{{- define "kafkatrace.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc (sub 51 (len .Chart.Name) | int) | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* What a selector may name: nothing that changes with a version, since selectors cannot change. */}}
{{- define "kafkatrace.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "kafkatrace.labels" -}}
{{ include "kafkatrace.selector" . }}
app.kubernetes.io/part-of: kafkatrace
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kafkatrace.metadata" -}}
{{ include "kafkatrace.metadata.named" (list . (include "kafkatrace.fullname" .)) }}
{{- end -}}

{{/* Takes (list context name). */}}
{{- define "kafkatrace.metadata.named" -}}
name: {{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace | quote }}
labels:
  {{- include "kafkatrace.labels" (index . 0) | nindent 2 }}
{{- end -}}

{{- define "kafkatrace.serviceAccount.name" -}}
{{- default (ternary (include "kafkatrace.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* A digest always names the same image; a tag can be moved. */}}
{{- define "kafkatrace.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* What holds for all services of a release stands in `global`, and wins. */}}
{{- define "kafkatrace.environment" -}}
{{- dig "environment" .Values.environment (.Values.global | default dict) -}}
{{- end -}}

{{- define "kafkatrace.kafka" -}}
{{- mergeOverwrite (deepCopy .Values.kafka) (deepCopy (dig "kafka" dict (.Values.global | default dict))) | toYaml -}}
{{- end -}}

{{/* The enabled autoscaler's values: none without one. */}}
{{- define "kafkatrace.autoscaler" -}}
{{- $hpa := .Values.hpa | default dict -}}
{{- $keda := .Values.keda | default dict -}}
{{- ternary $hpa (ternary $keda dict ($keda.enabled | default false)) ($hpa.enabled | default false) | toJson -}}
{{- end -}}

{{/*
The field `replicas`, or nothing. Without a number in the values, the one in the cluster stays: where Helm has set the field before and leaves it out,
Kubernetes makes it 1, before an autoscaler sets it. Where another has set it since, by the scale subresource as autoscalers and `kubectl scale` do,
server-side apply leaves it alone; and an autoscaler that sets it again meanwhile would make a number of ours a conflict.
Takes (list context kind). `helm template` sees no cluster.
*/}}
{{- define "kafkatrace.replicas" -}}
{{- $kind := index . 1 -}}
{{- with index . 0 -}}
{{- $autoscaler := include "kafkatrace.autoscaler" . | fromJson -}}
{{- $live := lookup "apps/v1" $kind .Release.Namespace (include "kafkatrace.fullname" .) -}}
{{- if .Values.replicas -}}
replicas: {{ .Values.replicas }}
{{- else if $live -}}
{{- $applies := false -}}
{{- $scaled := false -}}
{{- range $live.metadata.managedFields -}}
{{- if eq .operation "Apply" -}}{{- $applies = true -}}{{- end -}}
{{- if eq (.subresource | default "") "scale" -}}{{- $scaled = true -}}{{- end -}}
{{- end -}}
{{- if not (and $autoscaler $applies $scaled) -}}
replicas: {{ $live.spec.replicas }}
{{- end -}}
{{- else if not $autoscaler -}}
replicas: 2
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The fewest and the most pods that there may be. */}}
{{- define "kafkatrace.minReplicas" -}}
{{- (include "kafkatrace.autoscaler" . | fromJson).minReplicas | default .Values.replicas | default 2 -}}
{{- end -}}

{{- define "kafkatrace.maxReplicas" -}}
{{- (include "kafkatrace.autoscaler" . | fromJson).maxReplicas | default .Values.replicas | default 2 -}}
{{- end -}}
