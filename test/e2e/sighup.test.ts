/** SIGHUP at any moment of a node's life: the files that were changed count, and it ends nothing; real processes. */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { AnyClient } from "../fakes/any-call.ts";
import { some } from "../fakes/effort.ts";
import { CommandProcess, onFreePorts, startNodeProcess } from "../fakes/node-process.ts";
import { hasStrace, slowDisk } from "../fakes/slow-disk.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-hang-up-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

/** A node with a directory of its own on a disk where each write takes 0.1 s more. */
function slowNode(name: string, toml: string): CommandProcess {
  const config = file(`${name}.toml`, toml);
  const place = ["--data-dir", join(HOME, name), "--cluster-id", "c1", "--region", "eu", "--node-id", name];
  const argv = ["serve", "-o", "json", ...onFreePorts(place), "--config", config, "--log-level", "info"];
  return new CommandProcess(argv, "", slowDisk(100));
}

function file(name: string, text: string): string {
  const path = join(HOME, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

test.skipIf(!hasStrace)("who reads that the node listens may change its cluster token at once", { tags: ["night"] }, async () => {
  const right = file("right", "a-token-of-the-cluster\n");
  const guarded = file("seed.toml", `[fabric]\ncluster_token_file = "${right}"\n`);
  await using seed = await startNodeProcess(["--ephemeral", "--cluster-id", "c1", "--region", "eu", "--config", guarded]);
  const token = file("token", "a-token-of-another\n");
  await using joiner = slowNode("joiner", `[fabric]\nseeds = ["${seed.listeners["fabric"]}"]\ncluster_token_file = "${token}"\n`);
  expect(await joiner.errorLine(/"msg":"node is listening"/)).toContain('"level":"info"');
  file("token", "a-token-of-the-cluster\n");
  joiner.kill("SIGHUP");
  expect(await joiner.line(/"event":"ready"/)).toContain('"node_id":"joiner"');
});

test.skipIf(!hasStrace)(
  "a token file of a caller that is changed while the node opens its store counts once it is open",
  { tags: ["night"] },
  async () => {
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
    // One that came early was not the last that is heeded.
    file("credential", "tok-next-8Kd\n");
    node.kill("SIGHUP");
    await until("it takes the token that was changed later", async () => (await codeOf("tok-next-8Kd")) === "OK");
    expect(await codeOf("tok-new-6Gb")).toBe("UNAUTHENTICATED");
  },
);

/** A pipe, and what opens it for writing, which cannot be done before somebody reads. */
function pipeOf(name: string): { readonly path: string; readonly opened: () => Promise<number> } {
  const path = join(HOME, name);
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
  const opened = async () => {
    let pipe = -1;
    await until("somebody reads it", () => {
      pipe = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      return true;
    });
    return pipe;
  };
  return { path, opened };
}

test.each(
  some([
    { name: "later", words: ["-o", "json", "--tenant", "blue", "serve"] },
    { name: "first", words: ["serve", "-o", "json"] },
  ]),
)("a node that still reads its settings is not ended, with its command $name on the line", async ({ name, words }) => {
  const settings = pipeOf(`${name}.json`);
  await using node = new CommandProcess([...words, ...onFreePorts(["--ephemeral", "--config", settings.path])]);
  const pipe = await settings.opened();
  node.kill("SIGHUP");
  writeSync(pipe, "{}");
  closeSync(pipe);
  expect(await node.line(/"event":"ready"/)).toContain('"node_id"');
});

test("a command that runs no node is ended, also where a value of it is the word serve", async () => {
  const entries = pipeOf("entries.yaml");
  await using command = new CommandProcess(["--tenant", "serve", "apply", "-f", entries.path]);
  const pipe = await entries.opened();
  command.kill("SIGHUP");
  // No exit code: the signal ended it.
  expect(await command.finished()).toMatchObject({ exit: -1, stdout: "", stderr: "" });
  closeSync(pipe);
});

test("a node that stops goes on with its goodbye, and reads nothing again", async () => {
  const policy = file("stopping.yaml", "version: one\ndefault_allow: true\nrules: []\n");
  await using node = await startNodeProcess(["--ephemeral", "--policy", policy]);
  const door = node.listeners["http"] ?? "";
  const [host = "", port = ""] = door.split(":");
  // A request whose body does not end keeps a node that drains.
  const unfinished = connectTcp(Number(port), host).on("error", () => {});
  unfinished.write("POST /waymark.discovery.v1.DiscoveryService/Resolve HTTP/1.1\r\nHost: localhost\r\n");
  unfinished.write("Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
  await until("the request is there", async () => (await fetch(`http://${door}/healthz`)).ok);
  node.command.kill("SIGTERM");
  await until("it drains", async () => (await fetch(`http://${door}/readyz`)).status === 503);
  rmSync(policy);
  expect(spawnSync("mkfifo", [policy]).status).toBe(0);
  node.command.kill("SIGHUP");
  unfinished.destroy();
  const { exit, stderr } = await node.command.finished();
  expect([exit, stderr.includes("named pipe")]).toEqual([0, false]);
});

test("what the policy file says at the last of two SIGHUPs is in force", { tags: ["night"] }, async () => {
  const path = join(HOME, "policy.yaml");
  // Where it is replaced at once, nobody reads half of it.
  const put = (version: string, ruleCount: number): void => {
    const rules = Array.from({ length: ruleCount }, (_, i) => `  - namespace: ${version}.x${i}\n    visibility: [c]\n`).join("");
    writeFileSync(`${path}.new`, `version: ${version}\ndefault_allow: true\nrules:\n${rules}`);
    renameSync(`${path}.new`, path);
  };
  put("v0", 1);
  await using node = await startNodeProcess(["--data-dir", join(HOME, "ruled"), "--policy", path]);
  const inForce = async () => {
    const { version, degraded } = (await (await fetch(`http://${node.listeners["http"]}/discovery/policy`)).json()) as Record<
      string,
      string
    >;
    return [version, degraded];
  };
  for (let round = 1; round <= 20; round++) {
    put(`long-${round}`, 1_000);
    node.command.kill("SIGHUP");
    // While the long one is being read, checked or stored: each round at another moment of that.
    await setTimeout(3 * round);
    put(`short-${round}`, 1);
    node.command.kill("SIGHUP");
    await until(`round ${round}`, async () => {
      const [version, degraded] = await inForce();
      return version === `short-${round}` && degraded === "" ? [] : [`${version}, degraded: ${degraded}`];
    });
  }
  // One more, after which nothing that was read before can come: each waits for the one before it.
  put("last", 1);
  node.command.kill("SIGHUP");
  await until("the last one is in force", async () => (await inForce())[0] === "last");
  // So the history is whole. Some long ones were never read; no version stands after one that was written later.
  using client = new AnyClient(node.listeners["grpc"] ?? "");
  const { response } = await client.call(PolicyService.method.policyHistory, { limit: 100, withoutRules: true });
  const { versions } = response as unknown as { readonly versions: readonly { readonly policy: { readonly version: string } }[] };
  const labels = versions.map(({ policy }) => policy.version).toReversed();
  const written = ["v0", ...Array.from({ length: 20 }, (_, i) => [`long-${i + 1}`, `short-${i + 1}`]).flat(), "last"];
  expect(labels).toEqual(written.filter((label) => !label.startsWith("long") || labels.includes(label)));
});

test("a file that is none any more leaves what was in force, is told in the log, and holds up nothing; a new audit file is begun", async () => {
  const token = file("in-force", "tok-in-force-7Hk\n");
  const clusterToken = file("of-cluster", "a-token-of-the-cluster\n");
  const policy = file("in-force.yaml", "version: one\ndefault_allow: true\nrules: []\n");
  const audit = join(HOME, "audit.jsonl");
  const config = file(
    "guarded.json",
    JSON.stringify({
      audit: { file: audit },
      tenants: { credentials: [{ tenant: "t", token_file: token, roles: ["mesh.read"] }] },
      fabric: { cluster_token_file: clusterToken },
      policy: { file: policy },
    }),
  );
  await using node = await startNodeProcess(["--ephemeral", "--config", config]);
  using client = new AnyClient(node.listeners["grpc"] ?? "");
  await until("the start is in the audit file", () => existsSync(audit));
  // Rotating logs does the same. At SIGHUP the node begins a new file.
  renameSync(audit, `${audit}.1`);
  for (const path of [token, clusterToken, policy]) {
    rmSync(path);
    // Nobody ever writes to it.
    expect(spawnSync("mkfifo", [path]).status).toBe(0);
  }
  node.command.kill("SIGHUP");
  for (const path of [token, clusterToken, policy])
    await node.command.errorLine(new RegExp(`${path}: it is a named pipe; specify a regular file`));
  const answer = await client.call(DiscoveryService.method.serverInfo, {}, { authorization: "Bearer tok-in-force-7Hk" });
  expect(answer.code).toBe("OK");
  expect((await client.call(DiscoveryService.method.serverInfo, {}, { authorization: "Bearer unknown" })).code).toBe("UNAUTHENTICATED");
  await until("the refusal is in the new audit file", () => existsSync(audit) && readFileSync(audit, "utf8").includes("unauthenticated"));
  expect((await node.stop()).exit).toBe(0);
});
