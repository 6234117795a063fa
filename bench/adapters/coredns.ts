/**
 * CoreDNS with its `file` plugin, which answers from a zone in memory.
 *
 * Made as fast as we know: one thread that runs Go (`GOMAXPROCS=1`), four times as much garbage between collections (`GOGC=400`), no plugin but `file`, so no
 * log, no errors, no metrics and no cache, no reload of the file. The program holds no other plugin.
 * Not equal, for CoreDNS: its records never change, have no viewers and no health, and come in the same order each time; it counts nothing.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DnsServer, isAnswering, ZONE } from "../_dns.ts";
import { until } from "../_mesh.ts";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, runningOf, scratchDir } from "../_processes.ts";

/** Starts it with a zone; undefined when it is not installed. */
export async function startCoreDns(zone: string): Promise<DnsServer | undefined> {
  const program = peerProgram("coredns");
  if (program === undefined) return undefined;
  const folder = scratchDir("coredns");
  const [port, zoneFile, config] = [await freePort(), join(folder, "zone"), join(folder, "Corefile")];
  writeFileSync(zoneFile, zone);
  writeFileSync(config, `${ZONE}:${port} {\n  bind 127.0.0.1\n  file ${zoneFile} {\n    reload 0\n  }\n}\n`);
  const [command, args] = onServerCore(program, ["-conf", config, "-quiet"]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, GOMAXPROCS: "1", GOGC: "400" } });
  const at = { host: "127.0.0.1", port };
  await until(() => isAnswering(at), "CoreDNS answers");
  return { who: "CoreDNS", at, running: runningOf("coredns", child, { grpc: at, startMs: performance.now() - startedMs }) };
}
