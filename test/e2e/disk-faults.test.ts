/**
 * A real node on a disk that is full, or that fails: writes are refused, reads go on, and nothing acknowledged is lost.
 * @module-tag path
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type Client, connect, RequestError } from "../../src/client/index.ts";
import { CommandProcess, type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";
import { allEntries } from "../fakes/write-storm.ts";

const { register } = DiscoveryService.method;
const hasStrace = spawnSync("strace", ["-V"]).status === 0;
const isRoot = process.getuid?.() === 0;

/** Registers entries of some 10 KB, and remembers which were acknowledged. */
class Writer {
  readonly #client: Client;
  readonly acked: string[] = [];
  readonly refused: string[] = [];
  #count = 0;

  constructor(client: Client) {
    this.#client = client;
  }

  /** The refusal, or undefined when it was stored. */
  async write(): Promise<RequestError | undefined> {
    const instanceId = `w${this.#count++}`;
    const metadata = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`k${i}`, "x".repeat(1000)]));
    const key = { namespace: "svc", name: "web", instanceId };
    try {
      await this.#client.call(register, { entries: [{ key, metadata }], staticLease: true });
      this.acked.push(instanceId);
      return undefined;
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      this.refused.push(instanceId);
      return error;
    }
  }

  /** What the node holds against what was acknowledged; equal when nothing was lost and nothing refused is there. */
  async held(client = this.#client): Promise<{ readonly found: readonly string[]; readonly acked: readonly string[] }> {
    const found = (await allEntries(client, "svc")).map(({ key }) => key?.instanceId ?? "");
    return { found: found.toSorted(), acked: this.acked.toSorted() };
  }
}

async function expectHeld(writer: Writer, client?: Client): Promise<void> {
  const { found, acked } = await writer.held(client);
  expect(found).toEqual(acked);
}

async function persistence(node: NodeProcess): Promise<unknown> {
  return (await fetch(`http://${node.listeners["http"]}/metrics/persistence`)).json();
}

async function readyStatus(node: NodeProcess): Promise<{ readonly status: number; readonly body: string }> {
  const reply = await fetch(`http://${node.listeners["http"]}/readyz`);
  return { status: reply.status, body: await reply.text() };
}

/** After a crash, what was acknowledged is there and what was refused is not. */
async function compareAfterCrash(node: NodeProcess, data: string, writer: Writer): Promise<void> {
  await node.stop("SIGKILL");
  await using again = await startNodeProcess(["--data-dir", data]);
  const client = connect({ servers: [again.grpc] });
  await expectHeld(writer, client);
  client.close();
}

const STORE_UNAVAILABLE = { code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE", retryMs: 1000 };

test.runIf(isRoot)("a full disk: writes are refused with store_unavailable, reads go on, and writes heal when there is room", async () => {
  const mount = mkdtempSync(join(tmpdir(), "waymark-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", mount]);
  try {
    const data = join(mount, "data");
    await using node = await startNodeProcess(["--data-dir", data]);
    const client = connect({ servers: [node.grpc] });
    const writer = new Writer(client);
    for (let i = 0; i < 3; i++) expect(await writer.write()).toBeUndefined();
    const filler = join(mount, "filler");
    expect(() => writeFileSync(filler, new Uint8Array(4 << 20))).toThrow("ENOSPC");
    let refusal: RequestError | undefined;
    while (refusal === undefined) refusal = await writer.write();
    expect(refusal.facts).toMatchObject(STORE_UNAVAILABLE);
    expect(refusal.message).toContain("full");
    await expectHeld(writer);
    expect((await writer.write())?.facts).toMatchObject(STORE_UNAVAILABLE);
    expect(await persistence(node)).toMatchObject({ isFailing: true });
    expect(await readyStatus(node)).toMatchObject({ status: 200, body: expect.stringContaining("refuses writes") as string });
    rmSync(filler);
    expect(await writer.write()).toBeUndefined();
    expect(await persistence(node)).toMatchObject({ isFailing: false });
    await expectHeld(writer);
    client.close();
    await compareAfterCrash(node, data, writer);
  } finally {
    execFileSync("umount", [mount]);
    rmSync(mount, { recursive: true });
  }
});

test.runIf(isRoot)(
  "a policy that a full disk cannot keep is named as not taken, and is in force once there is room",
  { tags: ["night"] },
  async () => {
    const mount = mkdtempSync(join(tmpdir(), "waymark-disk-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", mount]);
    try {
      const write = (name: string, text: string) => writeFileSync(join(mount, name), text, { mode: 0o600 });
      write("token", "a-token-of-the-cluster\n");
      write("policy.yaml", "version: strict\ndefault_allow: false\n");
      const flags = (nodeId: string) => [
        "--node-id",
        nodeId,
        "--cluster-id",
        "c1",
        "--region",
        "eu",
        "--cluster-token-file",
        join(mount, "token"),
      ];
      await using seed = await startNodeProcess(["--ephemeral", ...flags("a")]);
      await using node = await startNodeProcess([
        ...flags("b"),
        "--data-dir",
        join(mount, "data"),
        "--join",
        seed.listeners["fabric"] ?? "",
      ]);
      const filler = join(mount, "filler");
      expect(() => writeFileSync(filler, new Uint8Array(8 << 20))).toThrow("ENOSPC");
      const applied = await seed.run(["namespace", "policy", "apply", join(mount, "policy.yaml")]);
      expect(applied).toMatchObject({ exit: 0 });
      const says = (text: string) => until(`/readyz says ${text}`, async () => (await readyStatus(node)).body.includes(text));
      await says("none configured; not applied: version 1 of node a, received from node a of cluster c1: not stored here: ");
      rmSync(filler);
      await says("version 1 in force");
      expect((await readyStatus(node)).body).not.toContain("not applied");
    } finally {
      execFileSync("umount", [mount]);
      rmSync(mount, { recursive: true });
    }
  },
);

test("a node whose data directory is gone ends when it is told to", { tags: ["night"] }, async () => {
  const data = mkdtempSync(join(tmpdir(), "waymark-gone-"));
  await using node = await startNodeProcess(["--data-dir", data, "--demo"]);
  // The node may be writing into it.
  rmSync(data, { recursive: true, maxRetries: 10 });
  const { exit } = await node.stop();
  expect(exit).toBe(0);
});

test.runIf(isRoot)("a disk that is full at the start: the node says so, and starts when there is room", { tags: ["night"] }, async () => {
  const mount = mkdtempSync(join(tmpdir(), "waymark-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", mount]);
  const filler = join(mount, "filler");
  const fill = () => expect(() => writeFileSync(filler, new Uint8Array(4 << 20))).toThrow("ENOSPC");
  try {
    const data = join(mount, "data");
    const argv = ["serve", "--data-dir", data, ...["grpc", "http", "dns", "fabric"].flatMap((name) => [`--${name}-port`, "0"])];
    for (const signal of [undefined, "SIGTERM", "SIGKILL"] as const) {
      if (signal !== undefined) await (await startNodeProcess(["--data-dir", data])).stop(signal);
      fill();
      expect(await new CommandProcess(argv).finished()).toMatchObject({
        exit: 1,
        stderr: expect.stringMatching(/disk full .*free some space/) as string,
      });
      rmSync(filler);
    }
    await using node = await startNodeProcess(["--data-dir", data]);
    const client = connect({ servers: [node.grpc] });
    expect(await new Writer(client).write()).toBeUndefined();
    client.close();
    expect((await node.run(["audit", "list"])).stdout).toContain("register");
    // A node that stops while the disk is full leaves a directory that starts, and in which nothing is missed.
    fill();
    await node.stop();
    rmSync(filler);
    await using again = await startNodeProcess(["--data-dir", data]);
    expect(again.nodeId).toBe(node.nodeId);
    expect(await again.run(["audit", "verify"])).toMatchObject({ exit: 0 });
  } finally {
    execFileSync("umount", [mount]);
    rmSync(mount, { recursive: true });
  }
});

/** Lets system calls of a running process fail, or take long, until disposed. */
async function inject(pid: number, fault: string): Promise<AsyncDisposable> {
  const [calls = ""] = fault.split(":");
  const strace = spawn("strace", ["-f", "-p", String(pid), "-e", `trace=${calls}`, "-e", `inject=${fault}`, "-o", "/dev/null"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  // "Process 1 attached" comes once for the process; faults of threads follow with it.
  await once(strace.stderr, "data", { signal: AbortSignal.timeout(30_000) });
  return {
    [Symbol.asyncDispose]: async () => {
      const closed = once(strace, "close");
      strace.kill("SIGINT");
      await closed;
    },
  };
}

test.runIf(hasStrace)("a failing fsync: the write is refused, reads go on, and what was acknowledged survives a crash", async () => {
  const data = mkdtempSync(join(tmpdir(), "waymark-disk-"));
  await using node = await startNodeProcess(["--data-dir", data]);
  const client = connect({ servers: [node.grpc] });
  const writer = new Writer(client);
  await writer.write();
  {
    await using fault = await inject(node.command.pid, "fsync,fdatasync:error=EIO");
    expect(fault).toBeDefined();
    expect((await writer.write())?.facts).toMatchObject(STORE_UNAVAILABLE);
    expect((await writer.write())?.facts).toMatchObject(STORE_UNAVAILABLE);
    expect(await persistence(node)).toMatchObject({ isFailing: true });
    await expectHeld(writer);
  }
  expect(await writer.write()).toBeUndefined();
  expect(writer.refused).toHaveLength(2);
  await expectHeld(writer);
  client.close();
  await compareAfterCrash(node, data, writer);
  rmSync(data, { recursive: true });
});
