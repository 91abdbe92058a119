{{/* Whether topics are made by a job. */}}
{{- define "topics.enabled" -}}
{{- if and .Values.topics.job .Values.producer.enabled -}}true{{- end -}}
{{- end -}}

{{- define "topics.name" -}}
{{- printf "%s-topics" (.Release.Name | trunc 44 | trimSuffix "-") -}}
{{- end -}}

{{/* Of its own, since those of the services come after it; or the one that there is. */}}
{{- define "topics.serviceAccount.name" -}}
{{- with .Values.producer.serviceAccount -}}
{{- ternary (include "topics.name" $) (.name | default "default") .create -}}
{{- end -}}
{{- end -}}

{{/* The producer's context, as JSON, with the job's own variables: it has the producer's image, Kafka and tenants. */}}
{{- define "topics.context" -}}
{{- $own := dict "fullnameOverride" (include "topics.name" .) "global" .Values.global -}}
{{- $values := mergeOverwrite (deepCopy .Values.producer) $own -}}
{{- $_ := set $values "config" (dict "TOPIC_PARTITIONS" .Values.topics.partitions "TOPIC_REPLICATION" .Values.topics.replication) -}}
{{- $_ := set $values "tls" dict -}}
{{- dict "Values" $values "Chart" (dict "Name" "producer" "AppVersion" .Chart.AppVersion "Version" .Chart.Version) "Release" .Release | toJson -}}
{{- end -}}

{{- define "topics.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: topics
app.kubernetes.io/part-of: kafkatrace
{{- end -}}

{{/* Before the services, and not after: see topics.job. What the jobs need has a lower weight than they. Helm deletes it after them, also when one has failed. */}}
{{- define "topics.hook" -}}
helm.sh/hook: pre-install,pre-upgrade,pre-rollback
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-weight: "-5"
{{- end -}}
