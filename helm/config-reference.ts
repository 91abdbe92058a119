/** `bun run config`: all environment variables of the services, from the schemas that validate them. */
import type { TObject } from '@sinclair/typebox'
import { consumerVariables } from '../consumer/config.ts'
import { consoleVariables } from '../consumer/console/config.ts'
import { producerVariables } from '../producer/config.ts'
import { parseCommandLine } from '../shared/service/command-line.ts'
import { expected, type Variable } from '../shared/service/config.ts'
import { withMarked } from './marked.ts'

const HELP = `Every environment variable of the services: name, what it takes, default, meaning.

Usage: bun run config [--markdown]

  --markdown   as Markdown tables
  --help       this text
`

/** The page with the tables, from the project's root. */
export const CONFIGURATION_PAGE = 'docs/configuration.md'

interface Row {
  name: string
  takes: string
  fallback: string
  meaning: string
}

/** Defaults that depend on the machine are described, not printed. */
const MACHINE_DEFAULTS: Record<string, string> = { INSTANCE_ID: 'the host’s name' }

function rowOf(name: string, schema: TObject): Row {
  const variable = schema.properties[name] as Variable
  const fallback =
    variable.default === undefined
      ? schema.required?.includes(name) === true
        ? 'required'
        : 'none'
      : String(variable.default)
  return {
    name,
    takes: expected(variable),
    fallback: MACHINE_DEFAULTS[name] ?? fallback,
    meaning: variable.description ?? '',
  }
}

const SERVICES = [
  { title: 'Producer', schema: producerVariables },
  { title: 'Consumer', schema: consumerVariables },
  { title: 'Console', schema: consoleVariables },
]

/** The variables in groups, so that those that all services have alike appear once. */
export function configurationGroups(): { title: string; rows: Row[] }[] {
  // All have OPS_PORT, with different defaults.
  const [first = {}, ...others] = SERVICES.map(({ schema }) => schema.properties as Record<string, unknown>)
  const shared = Object.entries(first)
    .filter(([name, variable]) => others.every((one) => JSON.stringify(one[name]) === JSON.stringify(variable)))
    .map(([name]) => name)
  return [
    { title: 'All services', rows: shared.map((name) => rowOf(name, producerVariables)) },
    ...SERVICES.map(({ title, schema }) => ({
      title,
      rows: Object.keys(schema.properties)
        .filter((name) => !shared.includes(name))
        .map((name) => rowOf(name, schema)),
    })),
  ]
}

/** As Markdown tables. */
export function configurationMarkdown(): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|')
  return configurationGroups()
    .map(
      ({ title, rows }) =>
        `**${title}**\n\n| variable | takes | default | meaning |\n|---|---|---|---|\n${rows
          .map(
            ({ name, takes, fallback, meaning }) =>
              `| \`${name}\` | ${cell(takes)} | ${cell(fallback)} | ${cell(meaning)} |`,
          )
          .join('\n')}\n`,
    )
    .join('\n')
}

/** The page with current tables. @throws Error when their marks are missing */
export const withConfiguration = (page: string): string =>
  withMarked(page, 'configuration', configurationMarkdown(), CONFIGURATION_PAGE)

function plain(): string {
  return configurationGroups()
    .map(
      ({ title, rows }) =>
        `${title}\n\n${rows.map(({ name, takes, fallback, meaning }) => `  ${name}\n      ${takes}; default: ${fallback}\n      ${meaning}\n`).join('')}`,
    )
    .join('\n')
}

if (import.meta.main) {
  const { values } = parseCommandLine(HELP, { options: { markdown: { type: 'boolean', default: false } } })
  process.stdout.write(values.markdown ? configurationMarkdown() : plain())
}
