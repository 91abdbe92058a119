import { expect, test } from 'bun:test'
import { scaledExpr, scaledForSeconds, scaledRules, scaledWindowSeconds } from './monitoring-scale.ts'

test('windows are shorter and keep their order', () => {
  const windows = ['5m', '10m', '15m', '30m', '1h', '2h', '6h', '1d', '3d', '30d'].map(scaledWindowSeconds)
  expect(windows).toEqual([10, 20, 30, 33, 36, 39, 44, 50, 55, 64])
  expect(scaledForSeconds('2m')).toBe(2)
  expect(scaledForSeconds('1h')).toBe(21)
})

test('only ranges change in a query: names and thresholds stay', () => {
  expect(scaledExpr('a:rate5m[30d] / rate(b{c="[x]"}[5m]) > 60')).toBe('a:rate5m[64s] / rate(b{c="[x]"}[10s]) > 60')
})

test('a rule keeps its labels and texts', () => {
  const rule = { alert: 'A', expr: 'rate(a[5m]) > 1', for: '5m', labels: { severity: 'page' } }
  const [group] = scaledRules({ groups: [{ name: 'g', rules: [rule] }] }).groups
  expect(group?.rules).toEqual([{ ...rule, expr: 'rate(a[10s]) > 1', for: '5s' }])
})
