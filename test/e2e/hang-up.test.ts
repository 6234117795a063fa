/** SIGHUP to a node that is not open yet, or has just said that it listens: the files that were changed count; real processes on a slow disk. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { AnyClient } from "../fakes/any-call.ts";
import { CommandProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const hasStrace = spawnSync("strace", ["-V"]).status === 0;
const HOME = mkdtempSync(join(tmpdir(), "waymark-hang-up-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const ANY_PORTS = ["--grpc-port", "0", "--http-port", "0", "--dns-port", "0", "--fabric-port", "0"];
const SYNCS = "fsync,fdatasync";
/** Each write to the disk takes 0.1 s more. The node keeps its process id: strace stands aside (`-D`). */
const SLOW_DISK = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", `trace=${SYNCS}`, "-e"];

/** A node with a directory of its own on a slow disk. */
function slowNode(name: string, toml: string): CommandProcess {
  const config = file(`${name}.toml`, toml);
  const place = ["--data-dir", join(HOME, name), "--cluster-id", "c1", "--region", "eu", "--node-id", name];
  const argv = ["serve", "-o", "json", ...ANY_PORTS, ...place, "--config", config, "--log-level", "info"];
  return new CommandProcess(argv, "", [...SLOW_DISK, `inject=${SYNCS}:delay_enter=100000`]);
}

function file(name: string, text: string): string {
  const path = join(HOME, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

test.skipIf(!hasStrace)("who reads that the node listens may change its cluster token at once", async () => {
  const right = file("right", "a-token-of-the-cluster\n");
  const guarded = file("seed.toml", `[fabric]\ncluster_token_file = "${right}"\n`);
  await using seed = await startNodeProcess(["--ephemeral", "--cluster-id", "c1", "--region", "eu", "--config", guarded]);
  const token = file("token", "a-token-of-another\n");
  await using joiner = slowNode("joiner", `[fabric]\nseeds = ["${seed.listeners["fabric"]}"]\ncluster_token_file = "${token}"\n`);
  await joiner.errorLine(/"msg":"node listens"/);
  file("token", "a-token-of-the-cluster\n");
  joiner.kill("SIGHUP");
  expect(await joiner.line(/"event":"ready"/)).toContain('"node_id":"joiner"');
});

test.skipIf(!hasStrace)("a token file of a caller that is changed while the node opens its store counts once it is open", async () => {
  const token = file("credential", "tok-old-1Hy\n");
  await using node = slowNode("opening", `[[tenants.credentials]]\ntenant = "t"\ntoken_file = "${token}"\nroles = ["mesh.read"]\n`);
  // Credentials are read before the store is opened.
  await until("it opens its store", () => existsSync(join(HOME, "opening", "journal.db")));
  file("credential", "tok-new-6Gb\n");
  node.kill("SIGHUP");
  const { listeners } = JSON.parse(await node.line(/"event":"ready"/)) as { readonly listeners: Readonly<Record<string, string>> };
  using client = new AnyClient(listeners["grpc"] ?? "");
  const codeOf = async (text: string) =>
    (await client.call(DiscoveryService.method.serverInfo, {}, { authorization: `Bearer ${text}` })).code;
  expect([await codeOf("tok-old-1Hy"), await codeOf("tok-new-6Gb")]).toEqual(["UNAUTHENTICATED", "OK"]);
});
