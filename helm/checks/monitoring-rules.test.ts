import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { Glob } from 'bun'
import { LogLine } from '../../shared/service/log-schema.ts'
import { root } from './check.ts'
import { faultsOfAlert, faultsOfRunbooks, faultsOfTests, sectionsOf } from './monitoring-rules.ts'

const good = {
  alert: 'TooHot',
  expr: 'heat > 1',
  labels: { severity: 'page' },
  annotations: {
    summary: '{{ $value }} degrees',
    description: 'Hot.',
    runbook_url: 'https://example.com/docs/runbooks/heat.md#toohot',
  },
}
const parts = ['Meaning', 'Impact', 'Diagnosis', 'Mitigation', 'Escalation'].map((part) => `**${part}.** Text.`)

test('a complete alert has no faults, and each thing that it lacks is one', () => {
  expect(faultsOfAlert(good)).toEqual([])
  expect(faultsOfAlert({ alert: 'TooHot', expr: 'heat > 1' })).toHaveLength(4)
  expect(faultsOfAlert({ ...good, annotations: { ...good.annotations, summary: 'hot' } })).toEqual([
    'TooHot: its summary does not tell the figure',
  ])
})

test('an alert needs a test of either kind, and a test needs an alert', () => {
  expect(faultsOfTests(['A'], ['A fires when x', 'A stays silent when y'])).toEqual([])
  expect(faultsOfTests(['A'], ['A fires when x'])).toEqual(['A: no promtool test is named "A stays silent when …"'])
  expect(faultsOfTests([], ['B fires when x'])).toEqual(['"B fires when x" tests no alert'])
})

test('an alert without a section, a section without an alert, and a section without a part are found', () => {
  const complete = sectionsOf('heat.md', `# Heat\n\n## TooHot\n\n${parts.join('\n\n')}\n`)
  expect(faultsOfRunbooks([good], complete)).toEqual([])
  expect(faultsOfRunbooks([good], [])).toHaveLength(1)
  expect(faultsOfRunbooks([], complete)).toEqual(['heat.md: TooHot is the runbook of no alert'])
  const short = sectionsOf('heat.md', `## TooHot\n\n${parts.slice(1).join('\n\n')}\n`)
  expect(faultsOfRunbooks([good], short)).toEqual(['heat.md: TooHot has no "Meaning"'])
})

test('what runbooks quote of logs, /readyz, dead letters and dashboards is in the code', async () => {
  let code = ''
  for await (const file of new Glob('{producer,consumer,shared,helm}/**/*.ts').scan(root))
    if (!/\.test\.ts$|\/(?:testing|dev|checks)\//.test(file)) code += await Bun.file(join(root, file)).text()
  const quotes: string[] = []
  for await (const file of new Glob('docs/runbooks/*.md').scan(root))
    for (const [, quote, searched = ''] of (await Bun.file(join(root, file)).text()).matchAll(
      /“([^”]+)”|^logs '"?([^'"]+)/gm,
    ))
      quotes.push((quote ?? searched).replaceAll(/\s+/g, ' '))
  expect(quotes.length).toBeGreaterThan(50)
  expect(quotes.filter((quote) => !code.includes(quote))).toEqual([])
})

test('the fields that documents search the log for are fields of its lines', async () => {
  const searched: string[] = []
  for await (const file of new Glob('docs/**/*.md').scan(root))
    for (const line of (await Bun.file(join(root, file)).text()).split('\n'))
      if (/^logs |\bgrep |\bjq /.test(line))
        for (const [, name = ''] of line.matchAll(/['".]\\?"([\w.@]+)\\?"(?=[:, \]]|\[\])/g)) searched.push(name)
  expect(searched.length).toBeGreaterThan(5)
  expect(searched.filter((name) => !(name in LogLine.properties))).toEqual([])
})

test('the functions of runbooks ask the operations port in plain HTTP and in TLS, each over a connection of its own', async () => {
  let functions = 0
  for await (const file of new Glob('docs/runbooks/*.md').scan(root)) {
    const text = await Bun.file(join(root, file)).text()
    const [, asked] = /^readyz\(\) \{ (.*?) \}/m.exec(text) ?? []
    if (asked === undefined) continue
    functions++
    expect(asked).toMatch(/^ask http (.*) \|\| ask https \1;$/)
    expect(/^ask\(\) \{ (.*) \}$/m.exec(text)?.[1]).toMatch(/^kubectl .*; curl -skm 10 "\$1:\/\/.*; kill \$!/)
  }
  expect(functions).toBe(4)
})
