{{/*
Values that contradict each other, each with what to do. They are refused here since a schema sees one value at a time.
Takes (list context materials): the chart's own materials, each as (list path material). Gives a line a fault.
*/}}
{{- define "kafkatrace.faults" -}}
{{- $materials := index . 1 -}}
{{- with index . 0 -}}
{{- $values := .Values -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml -}}
{{- $environment := include "kafkatrace.environment" . -}}
{{- $minReplicas := include "kafkatrace.minReplicas" . | int -}}
{{- if and .Values.replicas (include "kafkatrace.autoscaler" . | fromJson) }}
  - replicas is set, and an autoscaler is enabled: every upgrade would undo its decision. Leave replicas empty.
{{- end }}
{{- if gt $minReplicas (include "kafkatrace.maxReplicas" . | int) }}
  - minReplicas is more than maxReplicas.
{{- end }}
{{- if and (.Values.podDisruptionBudget | default dict).enabled (lt $minReplicas 2) }}
  - podDisruptionBudget.enabled needs at least 2 replicas: with one, a drained node either waits indefinitely or is an outage all the same. Raise the (minimum) replicas, or disable it.
{{- end }}
{{- range concat (list (list "kafka.sasl" $kafka.sasl) (list "kafka.tls" $kafka.tls) (list "tls" (.Values.tls | default dict))) $materials }}
{{- $path := index . 0 }}
{{- $material := index . 1 }}
{{- $sources := list }}
{{- range list "existingSecret" "externalSecret" "values" }}
{{- if index $material . }}{{ $sources = append $sources . }}{{ end }}
{{- end }}
{{- if gt (len $sources) 1 }}
  - {{ $path }} has {{ join " and " $sources }}: name one source.
{{- end }}
{{- if and $material.values (ne $environment "development") }}
  - {{ $path }}.values puts secrets into the release, and environment is {{ $environment }}: use existingSecret or externalSecret.
{{- end }}
{{- if and $material.externalSecret (not $values.secretStore.name) }}
  - {{ $path }}.externalSecret needs secretStore.name.
{{- end }}
{{- end }}
{{- include "kafkatrace.tls.faults" . }}
{{- $protocol := $kafka.securityProtocol }}
{{- $sasl := include "kafkatrace.material.name" (list . $kafka.sasl "kafka-sasl") }}
{{- $tls := include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls") }}
{{- $isMsk := eq $kafka.sasl.mechanism "AWS_MSK_IAM" }}
{{- $isOauth := eq $kafka.sasl.mechanism "OAUTHBEARER" }}
{{- if and (hasPrefix "sasl_" $protocol) (not $sasl) (not $isMsk) }}
  - kafka.securityProtocol is {{ $protocol }}, and kafka.sasl names no source of the {{ ternary "client's secret" "user and password" $isOauth }}.
{{- end }}
{{- if and (hasPrefix "sasl_" $protocol) $isOauth (not (and $kafka.oauth.tokenUrl $kafka.oauth.clientId)) }}
  - kafka.sasl.mechanism is OAUTHBEARER, and kafka.oauth.tokenUrl or kafka.oauth.clientId is empty.
{{- end }}
{{- if and (hasPrefix "sasl_" $protocol) $isMsk (not $kafka.awsRegion) }}
  - kafka.sasl.mechanism is AWS_MSK_IAM, and kafka.awsRegion is empty.
{{- end }}
{{- if and $isMsk $sasl }}
  - kafka.sasl names a Secret, and kafka.sasl.mechanism is AWS_MSK_IAM, which needs none: the role comes by serviceAccount.annotations.
{{- end }}
{{- if and (eq $protocol "sasl_plaintext") (or $isMsk $isOauth) (ne $environment "development") }}
  - kafka.securityProtocol sasl_plaintext with mechanism {{ $kafka.sasl.mechanism }} sends tokens in the clear: use sasl_ssl.
{{- end }}
{{- if and (.Values.keda | default dict).enabled (hasPrefix "sasl_" $protocol) (or $isMsk $isOauth) }}
  - keda.enabled and kafka.sasl.mechanism {{ $kafka.sasl.mechanism }}: the chart gives KEDA only a user and a password. Use hpa.
{{- end }}
{{- if and $sasl (not (hasPrefix "sasl_" $protocol)) }}
  - kafka.sasl is set, and kafka.securityProtocol is {{ $protocol }}, which would send no user: use sasl_ssl.
{{- end }}
{{- if and $tls (not (hasSuffix "ssl" $protocol)) }}
  - kafka.tls is set, and kafka.securityProtocol is {{ $protocol }}, which does not encrypt: use ssl or sasl_ssl.
{{- end }}
{{- if and $kafka.tls.clientCertificate (not $tls) }}
  - kafka.tls.clientCertificate is true, and kafka.tls names no source of it.
{{- end }}
{{- if and (eq $protocol "sasl_plaintext") (eq $kafka.sasl.mechanism "PLAIN") (eq $environment "production") }}
  - kafka.securityProtocol sasl_plaintext with mechanism PLAIN sends the password in the clear, and environment is production: use sasl_ssl.
{{- end }}
{{- end -}}
{{- end -}}
