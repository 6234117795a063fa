/** Opens and closes watches, registrations and clients, and prints what the process held before and after. Runs with --expose-gc. */
import { connect } from "../../src/client/index.ts";
import { held } from "../fakes/memory.ts";

const [server = "", rounds = "0"] = process.argv.slice(2);
/** What is made once, compiled code among it, is there after so many. */
const WARM_ROUNDS = 300;

async function round(i: number): Promise<void> {
  const client = connect({ servers: [server], findServers: i % 10 === 0 });
  const handle = await client.register([{ key: { namespace: "svc.leak", name: "web", instanceId: String(i % 7) } }]);
  const map = await client.watch({ namespace: "svc.leak" });
  map.resolve("svc.leak", "web")?.begin().succeeded();
  await client.resolve("svc.leak", "web");
  await map.close();
  await handle.close();
  client.close();
}

async function run(count: number): Promise<void> {
  // A few at a time, as a program would have them.
  for (let i = 0; i < count; i += 10) await Promise.all(Array.from({ length: 10 }, (_, k) => round(i + k)));
}

await run(WARM_ROUNDS);
const before = await held();
await run(Number(rounds));
const after = await held();
process.stdout.write(`${JSON.stringify({ before, after })}\n`);
