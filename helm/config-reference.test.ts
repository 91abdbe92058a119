import { expect, test } from 'bun:test'
import { consumerVariables } from '../consumer/config.ts'
import { consoleVariables } from '../consumer/console/config.ts'
import { producerVariables } from '../producer/config.ts'
import { configurationGroups, configurationMarkdown, withConfiguration } from './config-reference.ts'

test('every variable of the services is in the reference, with a meaning', () => {
  const rows = configurationGroups().flatMap((group) => group.rows)
  const names = new Set(
    [producerVariables, consumerVariables, consoleVariables].flatMap(({ properties }) => Object.keys(properties)),
  )
  expect(new Set(rows.map((row) => row.name))).toEqual(names)
  for (const row of rows) expect(row.meaning, row.name).not.toBe('')
})

test('the tables come between the marks, and what is around them stays', () => {
  const page = withConfiguration(
    'before\n<!-- configuration: begin (old) -->\nrows of before\n<!-- configuration: end -->\nafter\n',
  )
  expect(page).toStartWith('before\n<!-- configuration: begin (bun run generate) -->\n\n**All services**')
  expect(page).toContain(configurationMarkdown())
  expect(page).toEndWith('\n<!-- configuration: end -->\nafter\n')
  expect(page).not.toContain('rows of before')
  expect(withConfiguration(page)).toBe(page)
})

test('a page without the marks is refused', () => {
  expect(() => withConfiguration('nothing')).toThrow('lacks the marks')
})
