/**
 * The console's page, on the API alone. The address (place) says what is shown; session holds the key and makes the client of the API.
 *   app: the frame, and which view is shown; pipeline, find, browse, letters, live, schemas, send: the views
 *   load: asking the API; parts, data, difference, record, rows: what views share
 */
import { render } from 'preact'
import { App } from './app.tsx'

render(<App />, document.getElementById('app') as HTMLElement)
