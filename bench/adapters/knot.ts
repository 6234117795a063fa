/**
 * Knot as the system packages it, with one worker for UDP: what a server in C costs, which answers from a zone in memory.
 *
 * Made equal: one worker, on the core that our node has in its turn; no log.
 * Not equal, for Knot: it reads and writes many packets with one call of the system (recvmmsg, sendmmsg), its records never change, have no viewers and
 * no health, and come in the same order each time.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DnsServer, isAnswering, ZONE } from "../_dns.ts";
import { until } from "../_mesh.ts";
import { hasKnot } from "../_peers.ts";
import { freePort, onServerCore, runningOf, scratchDir } from "../_processes.ts";

/** Starts it with a zone; undefined when it is not installed. */
export async function startKnot(zone: string): Promise<DnsServer | undefined> {
  if (!hasKnot()) return undefined;
  const folder = scratchDir("knot");
  const [port, zoneFile, config] = [await freePort(), join(folder, "zone"), join(folder, "knot.conf")];
  writeFileSync(zoneFile, zone);
  writeFileSync(
    config,
    [
      "server:",
      `    rundir: ${folder}`,
      `    listen: 127.0.0.1@${port}`,
      "    udp-workers: 1",
      "    tcp-workers: 1",
      "    background-workers: 1",
      "database:",
      `    storage: ${folder}`,
      "zone:",
      `  - domain: ${ZONE}`,
      `    file: ${zoneFile}`,
      "    zonefile-sync: -1",
      "    journal-content: none",
      "",
    ].join("\n"),
  );
  const [command, args] = onServerCore("knotd", ["-c", config]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore" });
  const at = { host: "127.0.0.1", port };
  await until(() => isAnswering(at), "Knot answers");
  return { who: "Knot", at, running: runningOf("knot", child, { grpc: at, startMs: performance.now() - startedMs }) };
}
