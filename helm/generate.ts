/** `bun run generate`: writes all generated files, or reports stale ones. */
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { UnavailableError } from '../shared/dev/built.ts'
import { parseCommandLine } from '../shared/service/command-line.ts'
import { fieldsMarkdown } from '../shared/service/log-schema.ts'
import { readSeen, seenMarkdown } from '../shared/testing/secured-seen.ts'
import { OPERATIONS_PAGE, SECURITY_PAGE, withCommands, withPermissions } from './acl-reference.ts'
import { chartReadmes } from './checks/charts-readme.ts'
import { requestsTable } from './checks/charts-requests.ts'
import { schemaFiles } from './checks/charts-schema.ts'
import { root } from './checks/check.ts'
import { seenMarkdown as clusterMarkdown, readSeen as readClusterSeen } from './cluster/seen.ts'
import { CONFIGURATION_PAGE, withConfiguration } from './config-reference.ts'
import { withMarked } from './marked.ts'
import { dashboardFiles } from './monitoring/dashboards.ts'

const DEPLOYMENT_PAGE = 'docs/deployment.md'

const HELP = `Writes what is generated from the code: bun run generate [--check]

  --check   write nothing, and end with 1 when a file is stale
  --help    this text

  ${CONFIGURATION_PAGE.padEnd(34)}tables of the services' variables, between their marks
  ${OPERATIONS_PAGE.padEnd(34)}the commands that grant ACLs, and the fields of the log, between their marks
  ${SECURITY_PAGE.padEnd(34)}the table of ACLs, and what the tests saw of secured Kafka, between their marks
  ${DEPLOYMENT_PAGE.padEnd(34)}what the last whole check:cluster saw, and what the charts request, between their marks; the latter is skipped where Helm is not installed and
  ${''.padEnd(34)}Go is not there to build it
  helm/charts/*/values.schema.json  from values.yaml and the services' variables
  helm/charts/*/README.md           from values.yaml, by helm-docs; skipped where helm-docs is not installed and Go is not there to build it
  helm/monitoring/dashboards/*.json from helm/monitoring/dashboards.ts
`

/** A generated file with the wrong content, or one that is no longer generated. */
export interface Stale {
  /** From the project's root. */
  readonly path: string
  /** The right content; undefined: the file must be deleted. */
  readonly text: string | undefined
}

/**
 * Compares files with their expected content.
 * @param files contents by path from `folder`
 * @param owned globs, from `folder`, of files that must all be among `files`
 */
export async function staleFiles(
  folder: string,
  files: ReadonlyMap<string, string>,
  owned: readonly string[],
): Promise<Stale[]> {
  const stale: Stale[] = []
  for (const [path, text] of files) {
    const file = Bun.file(join(folder, path))
    if (!(await file.exists()) || (await file.text()) !== text) stale.push({ path, text })
  }
  for (const pattern of owned)
    for await (const path of new Bun.Glob(pattern).scan(folder))
      if (!files.has(path)) stale.push({ path, text: undefined })
  return stale
}

const DASHBOARDS = 'helm/monitoring/dashboards'

/** What tests saw of secured Kafka. */
const withSeen = async (page: string): Promise<string> =>
  withMarked(page, 'secured', seenMarkdown(await readSeen()), SECURITY_PAGE)

const withLogFields = (page: string): string => withMarked(page, 'log', fieldsMarkdown(), OPERATIONS_PAGE)

/** What check:cluster saw. */
const withClusterSeen = async (page: string): Promise<string> =>
  withMarked(page, 'cluster', clusterMarkdown(await readClusterSeen()), DEPLOYMENT_PAGE)

/** All generated files. @returns also those that cannot be generated on this machine, and why */
async function generated(): Promise<{ files: Map<string, string>; skipped: string | undefined }> {
  const page = (path: string): Promise<string> => Bun.file(join(root, path)).text()
  const files = new Map([
    [CONFIGURATION_PAGE, withConfiguration(await page(CONFIGURATION_PAGE))],
    [OPERATIONS_PAGE, withLogFields(withCommands(await page(OPERATIONS_PAGE)))],
    [SECURITY_PAGE, await withSeen(withPermissions(await page(SECURITY_PAGE)))],
    [DEPLOYMENT_PAGE, await withClusterSeen(await page(DEPLOYMENT_PAGE))],
    ...(await schemaFiles()),
  ])
  for (const [name, text] of dashboardFiles()) files.set(`${DASHBOARDS}/${name}`, text)
  const say = (progress: string): void => console.error(progress)
  try {
    for (const [path, text] of await chartReadmes(say)) files.set(path, text)
    const table = await requestsTable(say)
    files.set(DEPLOYMENT_PAGE, withMarked(files.get(DEPLOYMENT_PAGE) ?? '', 'requests', table, DEPLOYMENT_PAGE))
    return { files, skipped: undefined }
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error
    return { files, skipped: `helm/charts/*/README.md or ${DEPLOYMENT_PAGE}: ${error.message}` }
  }
}

if (import.meta.main) {
  const { values } = parseCommandLine(HELP, { options: { check: { type: 'boolean', default: false } } })
  const { files, skipped } = await generated()
  const stale = await staleFiles(root, files, [`${DASHBOARDS}/*.json`])
  for (const { path, text } of stale) {
    if (values.check) console.log(`FAILED  ${path} is stale: bun run generate`)
    else if (text === undefined) await Bun.file(join(root, path)).delete()
    else {
      await mkdir(dirname(join(root, path)), { recursive: true })
      await Bun.write(join(root, path), text)
    }
    if (!values.check) console.log(`${text === undefined ? 'deleted' : 'wrote'}  ${path}`)
  }
  if (skipped !== undefined) console.log(`skipped  ${skipped}`)
  console.log(`${files.size} generated files, ${stale.length} ${values.check ? 'stale' : 'changed'}`)
  process.exit(values.check && stale.length > 0 ? 1 : 0)
}
