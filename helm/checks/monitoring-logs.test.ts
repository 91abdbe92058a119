import { expect, test } from 'bun:test'
import { labelsMade, logqlFaults } from './monitoring-logs.ts'

test('a query is LogQL, of labels and fields that there are', () => {
  const right = '{service_name="consumer"} | json | kafkatrace_event_id="…"'
  expect(logqlFaults(right)).toEqual([])
  expect(logqlFaults('{service_name=~".+"} !~ "^[{]"')).toEqual([])
  expect(logqlFaults(right.replace('event_id', 'event'))).toEqual([
    '{service_name="consumer"} | json | kafkatrace_event="…": there is no kafkatrace_event',
  ])
  expect(logqlFaults('{event_id="one"}')).toEqual(['{event_id="one"}: there is no event_id'])
  expect(logqlFaults('{service_name="consumer"} | json |')).not.toEqual([])
})

test('labels are what relabelling and stages make', () => {
  const text = `
    rule {
      target_label  = "namespace"
    }
    stage.labels {
      values = { level = "", tenant = "kafkatrace_tenant" }
    }`
  expect(labelsMade(text)).toEqual(['namespace', 'level', 'tenant'])
})
