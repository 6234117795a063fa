/**
 * A program that cleans orders while it leads `custom/orders/cleaner`. Start it several times: one instance works, and the others wait. Run it with
 * `node cleaner.ts NAME URL SERVER...`, where URL is the address of orders.ts.
 */
import { setTimeout as wait } from "node:timers/promises";
import { connect, FENCE_METADATA, type LeaderTerm } from "waymark";

const [holderId = "", url = "", ...servers] = process.argv.slice(2);
const client = connect({ servers });
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());

/** Cleans until the term ends. The requests of a term that has ended are rejected by the database. */
async function clean({ fenceText, signal }: LeaderTerm): Promise<void> {
  process.stdout.write(`leads ${fenceText}\n`);
  for (;;) {
    const { status } = await fetch(url, { method: "POST", headers: { [FENCE_METADATA]: fenceText }, signal });
    if (status !== 204) process.stdout.write(`rejected ${fenceText}\n`);
    await wait(50, undefined, { signal });
  }
}

try {
  await client.lead("custom/orders/cleaner", clean, { holderId, signal: stop.signal });
} catch (error) {
  if (!stop.signal.aborted) throw error;
} finally {
  client.close();
}
