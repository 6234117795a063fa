/** `npm run cluster`: a local cluster of real nodes for people to play with. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { GrpcDoor } from "../fakes/node.ts";
import { isRunning } from "../fakes/running.ts";
import { until } from "../fakes/until.ts";

let home = "";
let running: Cluster[] = [];
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "waymark-npm-cluster-"));
});
afterEach(async () => {
  for (const cluster of running) await cluster.stop();
  running = [];
  rmSync(home, { recursive: true, force: true });
});

interface Row {
  readonly name: string;
  readonly pid: number;
  readonly grpc: string;
}

class Cluster {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;
  said = "";

  constructor(...flags: readonly string[]) {
    this.#child = spawn(process.execPath, ["scripts/cluster.ts", ...flags], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.on("data", (chunk: Buffer) => (this.said += chunk.toString()));
    this.#ended = once(this.#child, "close");
    running.push(this);
  }

  /** The table of nodes, when it is printed. */
  async nodes(): Promise<readonly Row[]> {
    await until("the cluster is there", () => Promise.resolve(this.said.includes("Ctrl-C stops all.") ? [] : [this.said]));
    const rows = this.said.matchAll(/^(n\d+) +(\d+) +(\S+) +\S+ +\S+ +\S+$/gm);
    return [...rows].map(([, name = "", pid = "", grpc = ""]) => ({ name, pid: Number(pid), grpc }));
  }

  async ended(): Promise<unknown> {
    const [code] = await this.#ended;
    return code;
  }

  /** Ctrl-C; its exit code. */
  async stop(): Promise<unknown> {
    if (this.#child.exitCode === null) this.#child.kill("SIGINT");
    return this.ended();
  }
}

test("as many nodes as asked for are one cluster, the commands it suggests work, and Ctrl-C ends all of them", {
  tags: ["night"],
}, async () => {
  const cluster = new Cluster("--nodes", "3", "--data", home);
  const nodes = await cluster.nodes();
  expect(nodes.map(({ name }) => name)).toEqual(["n1", "n2", "n3"]);
  for (const { name, grpc } of nodes) {
    using door = new GrpcDoor(grpc);
    await until(`${name} lists the others`, async () => {
      const { response } = await door.ask("listPeers", {});
      const listed = ((response["peers"] ?? []) as { nodeId: string }[]).map(({ nodeId }) => nodeId).toSorted();
      return listed.join() === nodes.flatMap((other) => (other.name === name ? [] : [other.name])).join() ? [] : listed;
    });
  }
  const token = join(home, "fabric.token");
  expect([statSync(token).mode & 0o777, readFileSync(token, "utf8")]).toEqual([0o600, expect.stringMatching(/^[\w-]{43}\n$/)]);
  for (const { pid } of nodes) expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toContain(`\0--cluster-token-file\0${token}\0`);
  const suggested = /^ {2}(\.\/bin\/waymark register .*)$/m.exec(cluster.said)?.[1] ?? "";
  const [code] = (await once(spawn("sh", ["-c", suggested], { stdio: "ignore" }), "close")) as [number];
  expect([suggested.includes("--target"), code]).toEqual([true, 0]);
  using last = new GrpcDoor(nodes[2]?.grpc ?? "");
  await until("seen at the last", async () => {
    const { response } = await last.ask("catalogQuery", { namespacePrefix: "svc" });
    return ((response["items"] ?? []) as unknown[]).length === 1 ? [] : ["nothing"];
  });
  expect(await cluster.stop()).toBe(0);
  expect(nodes.filter(({ pid }) => isRunning(pid))).toEqual([]);
  expect(existsSync(join(home, "n2"))).toBe(true);
});

test.each([
  { flags: ["--nodes", "0"], says: "--nodes must be 1 to 50" },
  { flags: ["--base-port", "70000"], says: "--base-port must be" },
])("$flags is refused with what would do", async ({ flags, says }) => {
  const cluster = new Cluster(...flags);
  expect(await cluster.ended()).toBe(2);
  expect(cluster.said).toContain(says);
});
