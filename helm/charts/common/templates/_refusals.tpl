{{/* Values that contradict each other, each with what to do. They are refused here since a schema sees one value at a time. */}}
{{- define "kafkatrace.refusals" -}}
{{- $kafka := include "kafkatrace.kafka" . | fromYaml -}}
{{- $environment := include "kafkatrace.environment" . -}}
{{- $keda := and .Values.keda .Values.keda.enabled -}}
{{- $producer := eq .Chart.Name "producer" -}}
{{- $faults := list -}}
{{- if and .Values.hpa.enabled $keda -}}
{{- $faults = append $faults "hpa.enabled and keda.enabled are both true: KEDA makes an HPA of its own, and two of them fight over the replicas. Enable one." -}}
{{- end -}}
{{- if and (not (kindIs "invalid" .Values.replicas)) (or .Values.hpa.enabled $keda) -}}
{{- $faults = append $faults "replicas is set, and an autoscaler is enabled: every upgrade would undo its decision. Leave replicas empty." -}}
{{- end -}}
{{- if gt (include "kafkatrace.minReplicas" . | int) (include "kafkatrace.maxReplicas" . | int) -}}
{{- $faults = append $faults "minReplicas is more than maxReplicas." -}}
{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (lt (include "kafkatrace.minReplicas" . | int) 2) -}}
{{- $faults = append $faults "podDisruptionBudget.enabled needs at least 2 replicas: with one, a drained node either waits for ever or is an outage all the same. Raise the (minimum) replicas, or disable it." -}}
{{- end -}}
{{- if and (not $producer) (gt (include "kafkatrace.maxReplicas" . | int) (.Values.partitions | int)) -}}
{{- $faults = append $faults (printf "the most replicas are %s, and partitions is %v: a partition has one reader, so that the others would idle. Lower the replicas, or raise partitions once the topics have them." (include "kafkatrace.maxReplicas" .) (.Values.partitions | int)) -}}
{{- end -}}
{{- $materials := list (list "kafka.sasl" $kafka.sasl) (list "kafka.tls" $kafka.tls) -}}
{{- if $producer -}}
{{- $materials = append $materials (list "tenants" .Values.tenants) -}}
{{- end -}}
{{- range $materials -}}
{{- $material := index . 1 -}}
{{- $sources := compact (list (ternary "existingSecret" "" (not (empty $material.existingSecret))) (ternary "externalSecret" "" (not (empty $material.externalSecret))) (ternary "values" "" (not (empty $material.values)))) -}}
{{- if gt (len $sources) 1 -}}
{{- $faults = append $faults (printf "%s has %s: name one source." (index . 0) (join " and " $sources)) -}}
{{- end -}}
{{- if and $material.values (eq $environment "production") -}}
{{- $faults = append $faults (printf "%s.values puts secrets into the release, and environment is production: use existingSecret or externalSecret." (index . 0)) -}}
{{- end -}}
{{- if and $material.externalSecret (not $.Values.secretStore.name) -}}
{{- $faults = append $faults (printf "%s.externalSecret needs secretStore.name." (index . 0)) -}}
{{- end -}}
{{- end -}}
{{- $sasl := hasPrefix "sasl_" $kafka.securityProtocol -}}
{{- $tls := hasSuffix "ssl" $kafka.securityProtocol -}}
{{- if and $sasl (not (include "kafkatrace.material.name" (list . $kafka.sasl "kafka-sasl"))) -}}
{{- $faults = append $faults (printf "kafka.securityProtocol is %s, and kafka.sasl names no source of the user and password." $kafka.securityProtocol) -}}
{{- end -}}
{{- if and (not $sasl) (include "kafkatrace.material.name" (list . $kafka.sasl "kafka-sasl")) -}}
{{- $faults = append $faults (printf "kafka.sasl is set, and kafka.securityProtocol is %s, which would send no user: use sasl_ssl." $kafka.securityProtocol) -}}
{{- end -}}
{{- if and (not $tls) (include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls")) -}}
{{- $faults = append $faults (printf "kafka.tls is set, and kafka.securityProtocol is %s, which does not encrypt: use ssl or sasl_ssl." $kafka.securityProtocol) -}}
{{- end -}}
{{- if and $kafka.tls.clientCertificate (not (include "kafkatrace.material.name" (list . $kafka.tls "kafka-tls"))) -}}
{{- $faults = append $faults "kafka.tls.clientCertificate is true, and kafka.tls names no source of it." -}}
{{- end -}}
{{- if and (eq $kafka.securityProtocol "sasl_plaintext") (eq $kafka.sasl.mechanism "PLAIN") (eq $environment "production") -}}
{{- $faults = append $faults "kafka.securityProtocol sasl_plaintext with mechanism PLAIN sends the password in the clear, and environment is production: use sasl_ssl." -}}
{{- end -}}
{{- if $producer -}}
{{- if and (not .Values.auth.enabled) (ne $environment "development") -}}
{{- $faults = append $faults (printf "auth.enabled is false, and environment is %s: only development takes events from anybody." $environment) -}}
{{- end -}}
{{- if and .Values.auth.enabled (not (include "kafkatrace.material.name" (list . .Values.tenants "tenants"))) -}}
{{- $faults = append $faults "auth.enabled is true, and tenants names no source of tenants.json: set tenants.existingSecret or tenants.externalSecret." -}}
{{- end -}}
{{- if and (not .Values.auth.enabled) (include "kafkatrace.material.name" (list . .Values.tenants "tenants")) -}}
{{- $faults = append $faults "tenants is set, and auth.enabled is false does not read it: remove one." -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.httpRoute.enabled -}}
{{- $faults = append $faults "ingress.enabled and httpRoute.enabled are both true: two ways in, of which limits and TLS would have to agree. Enable one." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (empty .Values.ingress.hosts) -}}
{{- $faults = append $faults "ingress.enabled needs ingress.hosts: without a host it takes every host's requests." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (empty .Values.httpRoute.parentRefs) -}}
{{- $faults = append $faults "httpRoute.enabled needs httpRoute.parentRefs: a route without a gateway serves nobody." -}}
{{- end -}}
{{- else -}}
{{- if and .Values.referenceTable.content .Values.referenceTable.existingConfigMap -}}
{{- $faults = append $faults "referenceTable has content and existingConfigMap: name one source." -}}
{{- end -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n%s:\n  - %s" .Chart.Name (join "\n  - " $faults)) -}}
{{- end -}}
{{- end -}}
