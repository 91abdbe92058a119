import { expect, test } from 'bun:test'
import { faultsOfRun } from './monitoring-faults.ts'
import { asMarkdown, isEmpty, substituted } from './monitoring-live.ts'

const plan = [{ name: 'a flood', fires: ['Wet'] }]

test('an alert that fired with a figure and resolved has no fault', () => {
  expect(faultsOfRun(['Wet'], plan, { fired: new Map([['Wet', '3 m']]), resolved: new Set(['Wet']) })).toEqual([])
})

test('an alert is never skipped silently', () => {
  const none = { fired: new Map<string, string>(), resolved: new Set<string>() }
  expect(faultsOfRun(['Wet', 'Dry'], plan, none)).toEqual([
    'Wet: did not fire by "a flood"',
    'Dry: no fault of the run is meant to make it fire',
  ])
  expect(faultsOfRun(['Wet'], plan, { ...none, fired: new Map([['Wet', '3 m']]) })).toEqual([
    'Wet: did not resolve after all faults were over',
  ])
  expect(faultsOfRun(['Wet'], plan, { fired: new Map([['Wet', 'wet']]), resolved: new Set(['Wet']) })).toEqual([
    'Wet: its summary tells no figure: wet',
  ])
})

test('a panel is empty when one of its queries is', () => {
  const full = { expr: 'a', series: 1, last: '2' }
  const result = { file: 'f.json', title: 'T', queries: [full, { expr: 'b', series: 0, last: 'none' }] }
  expect(isEmpty(result)).toBe(true)
  expect(isEmpty({ ...result, queries: [full] })).toBe(false)
  expect(asMarkdown([result])).toContain('| f.json | T | 1 | 2 |\n| f.json | T | 0 | none |\n')
})

test('no variable of Grafana’s is left in a query', () => {
  expect(substituted('rate(a{namespace=~"$namespace"}[$__rate_interval])')).toBe('rate(a{namespace=~".*"}[15s])')
})
