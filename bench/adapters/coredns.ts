/**
 * CoreDNS with its `file` plugin, which answers from a zone in memory; or with its `cache` plugin before that, as most Corefiles have it, which keeps the answers
 * that `file` has made.
 *
 * Made equal: one thread that runs Go (`GOMAXPROCS=1`; with two it was no faster). For CoreDNS: four times as much garbage between collections (`GOGC=400`; none at
 * all gains no more), no log, no errors, no metrics, no reload of the file, and a cache that holds all answers for as long as they live.
 * Not equal, for CoreDNS: its records never change, have no viewers and no health, and come in the same order each time; it counts nothing. Against it: `file` adds the
 * zone's NS records to each answer, and cannot leave them out.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DnsServer, isAnswering, ZONE } from "../_dns.ts";
import { until } from "../_mesh.ts";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, runningOf, scratchDir } from "../_processes.ts";

/** Starts it with a zone; undefined when it is not installed. */
export async function startCoreDns(zone: string, { hasCache }: { readonly hasCache: boolean }): Promise<DnsServer | undefined> {
  const program = peerProgram("coredns");
  if (program === undefined) return undefined;
  const folder = scratchDir("coredns");
  const [port, zoneFile, config] = [await freePort(), join(folder, "zone"), join(folder, "Corefile")];
  writeFileSync(zoneFile, zone);
  const cache = hasCache ? "  cache 3600\n" : "";
  writeFileSync(config, `${ZONE}:${port} {\n  bind 127.0.0.1\n${cache}  file ${zoneFile} {\n    reload 0\n  }\n}\n`);
  const [command, args] = onServerCore(program, ["-conf", config, "-quiet"]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, GOMAXPROCS: "1", GOGC: "400" } });
  const at = { host: "127.0.0.1", port };
  await until(() => isAnswering(at), "CoreDNS answers");
  const running = runningOf("coredns", child, { grpc: at, startMs: performance.now() - startedMs });
  return { who: hasCache ? "CoreDNS with `cache` before `file`" : "CoreDNS with `file` alone", at, running };
}
