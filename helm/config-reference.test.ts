import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { consumerVariables } from '../consumer/config.ts'
import { producerVariables } from '../producer/config.ts'
import { configurationGroups, readmeWithConfiguration } from './config-reference.ts'

test('every variable of both services is in the reference, with a meaning', () => {
  const rows = configurationGroups().flatMap((group) => group.rows)
  const names = new Set([...Object.keys(producerVariables.properties), ...Object.keys(consumerVariables.properties)])
  expect(new Set(rows.map((row) => row.name))).toEqual(names)
  for (const row of rows) expect(row.meaning, row.name).not.toBe('')
})

test('the README’s configuration tables are those of the schemas', async () => {
  const readme = await Bun.file(join(import.meta.dir, '../README.md')).text()
  expect(readmeWithConfiguration(readme), 'README.md is out of date: bun run config --readme').toBe(readme)
})

test('a README without the marks is refused', () => {
  expect(() => readmeWithConfiguration('nothing')).toThrow('lacks the marks')
})
