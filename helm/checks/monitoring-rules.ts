import { basename, join } from 'node:path'
import { Glob } from 'bun'
import { type Check, outcome, root, run } from './check.ts'
import { tool } from './tools.ts'

/** Checks of rules, their promtool tests and runbooks, and the Alertmanager example. */

export const MONITORING = join(root, 'helm/monitoring')
const RUNBOOKS = join(root, 'docs/runbooks')
const RUNBOOK_SECTIONS = ['Meaning', 'Impact', 'Diagnosis', 'Mitigation', 'Escalation']
const SEVERITIES = ['page', 'ticket']

interface Rule {
  record?: string
  alert?: string
  expr: string
  for?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
}

export interface RuleFile {
  groups: { name: string; interval?: string; rules: Rule[] }[]
}

export interface Alert extends Rule {
  alert: string
  file: string
}

export async function filesIn(folder: string, pattern: string): Promise<string[]> {
  return (await Array.fromAsync(new Glob(pattern).scan({ cwd: folder }))).sort().map((file) => join(folder, file))
}

export const ruleFiles = (): Promise<string[]> => filesIn(join(MONITORING, 'rules'), '*.yaml')

const parsed = async <T>(file: string): Promise<T> => Bun.YAML.parse(await Bun.file(file).text()) as T

export async function alerts(): Promise<Alert[]> {
  const found: Alert[] = []
  for (const file of await ruleFiles())
    for (const { rules } of (await parsed<RuleFile>(file)).groups)
      for (const rule of rules) if (rule.alert !== undefined) found.push({ ...rule, alert: rule.alert, file })
  return found
}

/** What an alert lacks. */
export function faultsOfAlert({ alert, labels = {}, annotations = {} }: Omit<Alert, 'file'>): string[] {
  const faults: string[] = []
  if (!SEVERITIES.includes(labels['severity'] ?? '')) faults.push(`severity is none of ${SEVERITIES.join(', ')}`)
  if (!/\{\{\s*\$value/.test(annotations['summary'] ?? '')) faults.push('its summary does not tell the figure')
  if ((annotations['description'] ?? '') === '') faults.push('it has no description')
  if (!annotations['runbook_url']?.endsWith(`#${alert.toLowerCase()}`))
    faults.push('its runbook_url has no anchor of its name')
  return faults.map((fault) => `${alert}: ${fault}`)
}

/** Alerts without a test that they fire, or that they stay silent; and tests of unknown alerts. */
export function faultsOfTests(alertNames: readonly string[], testNames: readonly string[]): string[] {
  const missing = alertNames.flatMap((alert) =>
    ['fires when', 'stays silent when']
      .filter((what) => !testNames.some((test) => test.startsWith(`${alert} ${what} `)))
      .map((what) => `${alert}: no promtool test is named "${alert} ${what} …"`),
  )
  const strange = testNames.filter((test) => !alertNames.includes(test.split(' ')[0] ?? ''))
  return [...missing, ...strange.map((test) => `"${test}" tests no alert`)]
}

export interface Runbook {
  /** Relative to docs/runbooks. */
  file: string
  title: string
  text: string
}

/** The sections of a runbook, one for each alert. */
export function sectionsOf(file: string, markdown: string): Runbook[] {
  return markdown
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const [title = '', ...lines] = section.split('\n')
      return { file, title: title.trim(), text: lines.join('\n') }
    })
}

/** Alerts without a section, sections without an alert, and what sections lack. */
export function faultsOfRunbooks(named: readonly Omit<Alert, 'file'>[], sections: readonly Runbook[]): string[] {
  const dead = named.flatMap(({ alert, annotations }) => {
    const url = annotations?.['runbook_url'] ?? ''
    const there = sections.some(
      ({ file, title }) => title === alert && url.endsWith(`/docs/runbooks/${file}#${title.toLowerCase()}`),
    )
    return there ? [] : [`${alert}: ${url} is no section of docs/runbooks`]
  })
  const others = sections.flatMap(({ file, title, text }) => [
    ...(named.some(({ alert }) => alert === title) ? [] : [`${file}: ${title} is the runbook of no alert`]),
    ...RUNBOOK_SECTIONS.filter((part) => !new RegExp(`^\\*\\*${part}\\.\\*\\* \\S`, 'm').test(text)).map(
      (part) => `${file}: ${title} has no "${part}"`,
    ),
  ])
  return [...dead, ...others]
}

const rulesAreValid: Check = {
  name: 'rules: promtool check, linted',
  counts: 'rules',
  async run(say) {
    const promtool = await tool('promtool', say)
    const { exitCode, output, errors } = await run([
      promtool,
      'check',
      'rules',
      '--lint=all',
      '--lint-fatal',
      ...(await ruleFiles()),
    ])
    const count = [...output.matchAll(/SUCCESS: (\d+) rules/g)].reduce((sum, [, found]) => sum + Number(found), 0)
    return { passed: count, faults: exitCode === 0 ? [] : [(output + errors).trim()] }
  },
}

const alertsAreComplete: Check = {
  name: 'alerts: severity, figure, description, runbook',
  counts: 'alerts',
  async run() {
    const all = await alerts()
    return outcome(all.length, all.flatMap(faultsOfAlert))
  },
}

const runbooksExist: Check = {
  name: 'runbooks: a section an alert, an alert a section',
  counts: 'sections',
  async run() {
    const files = await filesIn(RUNBOOKS, '*.md')
    const sections = (
      await Promise.all(files.map(async (file) => sectionsOf(basename(file), await Bun.file(file).text())))
    ).flat()
    return outcome(sections.length, faultsOfRunbooks(await alerts(), sections))
  },
}

const testsPass: Check = {
  name: 'rules: promtool tests, each alert firing and silent',
  counts: 'tests',
  async run(say) {
    const files = await filesIn(join(MONITORING, 'tests'), '*.test.yaml')
    const names: string[] = []
    for (const file of files) {
      const { tests } = await parsed<{ tests: { name: string }[] }>(file)
      names.push(...tests.map(({ name }) => name))
    }
    const faults = faultsOfTests(
      (await alerts()).map(({ alert }) => alert),
      names,
    )
    const promtool = await tool('promtool', say)
    say(`running ${names.length} tests`)
    const { exitCode, output, errors } = await run([promtool, 'test', 'rules', ...files])
    if (exitCode !== 0) faults.push((output + errors).trim())
    return outcome(names.length, faults)
  },
}

const routingIsRight: Check = {
  name: 'Alertmanager example: amtool check and routes',
  counts: 'routes',
  async run(say) {
    const amtool = await tool('amtool', say)
    const file = join(MONITORING, 'alertmanager/alertmanager.yaml')
    const config = await run([amtool, 'check-config', file])
    if (config.exitCode !== 0) return { passed: 0, faults: [(config.output + config.errors).trim()] }
    const faults: string[] = []
    const all = await alerts()
    for (const { alert, labels = {} } of all) {
      const receiver = labels['severity'] === 'page' ? 'on-call' : 'tickets'
      const { exitCode, output, errors } = await run([
        amtool,
        'config',
        'routes',
        'test',
        `--config.file=${file}`,
        `--verify.receivers=${receiver}`,
        `alertname=${alert}`,
        ...Object.entries(labels).map(([name, value]) => `${name}=${value}`),
      ])
      if (exitCode !== 0) faults.push(`${alert} is not sent to ${receiver}: ${(output + errors).trim()}`)
    }
    const { inhibit_rules } = await parsed<{ inhibit_rules: Record<string, string[]>[] }>(file)
    for (const matcher of inhibit_rules.flatMap((rule) => [
      ...(rule['source_matchers'] ?? []),
      ...(rule['target_matchers'] ?? []),
    ])) {
      const pattern = /^alertname=~?"(.*)"$/.exec(matcher)?.[1] ?? ''
      if (!all.some(({ alert }) => new RegExp(`^(?:${pattern})$`).test(alert)))
        faults.push(`inhibition: ${matcher} matches no alert`)
    }
    return outcome(all.length, faults)
  },
}

export const ruleChecks: readonly Check[] = [rulesAreValid, alertsAreComplete, runbooksExist, testsPass, routingIsRight]
