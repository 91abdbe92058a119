{{/* `helm test`: asks the operations port, as the kubelet does, but through the Service's name and the network policies. */}}
{{- define "kafkatrace.test.metadata" -}}
name: {{ include "kafkatrace.fullname" . }}-test
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "kafkatrace.test.labels" . | nindent 2 }}
{{- end -}}

{{- define "kafkatrace.test.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/part-of: kafkatrace
{{- end -}}

{{/* A job, since Kubernetes deletes those after a time. A pod's first connections may fail until the network knows its address. Takes (list context port). */}}
{{- define "kafkatrace.test.job" -}}
{{- $port := index . 1 -}}
{{- with index . 0 -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "kafkatrace.test.metadata" . | nindent 2 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
    helm.sh/hook-output-log-policy: hook-succeeded,hook-failed
spec:
  backoffLimit: 0
  activeDeadlineSeconds: 180
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      {{- include "kafkatrace.pod.job.metadata" (list . (include "kafkatrace.test.labels" .)) | nindent 6 }}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext:
        {{- include "kafkatrace.podSecurityContext" . | nindent 8 }}
      {{- with .Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- include "kafkatrace.pod.placement" . | indent 6 }}
      containers:
        - name: test
          image: {{ include "kafkatrace.image" . | quote }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          command:
            - bun
            - -e
            - |
              const url = '{{ ternary "https" "http" (eq (include "kafkatrace.tls.ops" .) "true") }}://{{ include "kafkatrace.fullname" . }}-ops:{{ $port }}/readyz'
              let said
              do {
                try {
                  const answer = await fetch(url, { signal: AbortSignal.timeout(5_000), tls: { rejectUnauthorized: false } })
                  const text = await answer.text()
                  said = `${answer.status} ${text}`
                  if (answer.ok && JSON.parse(text).ok) {
                    console.log(`${url}: ${said}`)
                    process.exit(0)
                  }
                } catch (error) {
                  said = error.message
                }
                await Bun.sleep(1_000)
              } while (performance.now() < 60_000)
              console.error(`${url} is not as it should be after a minute. Its last answer: ${said}`)
              process.exit(1)
          securityContext:
            {{- include "kafkatrace.securityContext" . | nindent 12 }}
          resources:
            requests: {cpu: 50m, memory: 128Mi}
            # Of CPU, too: a quota may ask for it, and nothing waits for this pod.
            limits: {cpu: 500m, memory: 128Mi}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 16Mi}
{{- end -}}
{{- end -}}

{{/* Takes (list context port). */}}
{{- define "kafkatrace.test.egress" -}}
{{- $port := index . 1 -}}
{{- with index . 0 -}}
{{- include "kafkatrace.egress.dns" . }}
- to:
    - podSelector:
        matchLabels:
          {{- include "kafkatrace.selector" . | nindent 10 }}
  ports:
    - {protocol: TCP, port: {{ $port }}}
{{- end -}}
{{- end -}}
