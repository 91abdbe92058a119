/** The real payloads of `@octokit/webhooks-examples`, of GitHub and of its Enterprise Server, for tests. */
import github from '@octokit/webhooks-examples'

/** As in the package. */
interface WebhookExamples {
  name: string
  examples: unknown[]
}

const ENTERPRISE_VERSIONS = ['31', '32', '33', '34', '35']

/** All examples of an event (named as in `X-GitHub-Event`), and where each comes from. */
export async function examplesOf(event: string): Promise<{ from: string; payload: unknown }[]> {
  const sources: { from: string; events: readonly WebhookExamples[] }[] = [{ from: 'github.com', events: github }]
  for (const version of ENTERPRISE_VERSIONS) {
    const file = await import(`@octokit/webhooks-examples/ghes-${version}/index.json`)
    sources.push({ from: `Enterprise Server ${version}`, events: file.default as WebhookExamples[] })
  }
  return sources.flatMap(({ from, events }) =>
    events
      .filter((one) => one.name === event)
      .flatMap((one) => one.examples.map((payload, index) => ({ from: `${from} #${index}`, payload }))),
  )
}
