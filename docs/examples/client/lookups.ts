/**
 * A program that keeps running while its servers are killed. It registers an instance of a service, looks the service up every 10 ms in a
 * live map, and prints a line per second. Stop the servers and start them again: no lookup fails. Run it with `node lookups.ts
 * 127.0.0.1:17420`, and stop it with Ctrl-C.
 */
import { connect, type RegistrationEvent } from "waymark";

const servers = process.argv.slice(2);
const client = connect({ servers: servers.length > 0 ? servers : ["127.0.0.1:17420"] });
const say = (line: string) => process.stdout.write(`${line}\n`);

const onEvent = (event: RegistrationEvent) => {
  if (event.kind !== "renewed") say(`registration: ${event.kind}`);
};
// A client reconnects within 15 s after its server returns. A lease that lasts longer than that survives each restart.
const registration = await client.register(
  [{ key: { namespace: "example", name: "web", instanceId: `web-${process.pid}` }, targets: [{ host: "127.0.0.1", port: 8080 }] }],
  { ttlMs: 20_000, waitsForServer: true, onEvent },
);
const map = await client.watch({ namespace: "example", bookmarkInterval: { seconds: 1n } });

let [found, failed] = [0, 0];
const lookups = setInterval(() => {
  const choice = map.resolve("example", "web");
  if (choice?.target === undefined) failed += 1;
  else found += 1;
  // A real program calls the target between these two calls.
  choice?.begin().succeeded();
}, 10);
const reports = setInterval(() => {
  const { ageMs, isStale } = map.freshness;
  say(`found ${found}, failed ${failed}, ${isStale ? "stale" : "current"}, at most ${Math.round(ageMs)} ms old, server ${client.server}`);
}, 1000);

process.once("SIGINT", () => {
  clearInterval(lookups);
  clearInterval(reports);
  void Promise.all([map.close(), registration.close()]).then(() => client.close());
});
