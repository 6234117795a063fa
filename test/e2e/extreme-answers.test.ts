/**
 * Peers that answer a real node's calls with any field at the ends of what it can hold, or without it: the node is ready when it has heard of an honest
 * one, lives, writes, ends leases and starts again.
 * @module-tag night
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type Answering, AnsweringPeer } from "../fakes/answering-peer.ts";
import { changed } from "../fakes/changed-answers.ts";
import { fabricOf, startKeptNode } from "../fakes/kept-node.ts";
import { names, registered } from "../fakes/market.ts";
import { GrpcDoor } from "../fakes/node.ts";
import type { NodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const data = mkdtempSync(join(tmpdir(), "waymark-extreme-answers-"));
afterAll(() => rmSync(data, { recursive: true, force: true }));

const MIB = 1_048_576;

function rssMib(pid: number): number {
  const [, kib = "0"] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return (Number(kib) * 1024) / MIB;
}

/** A write, the end of a lease, and no more memory than a node has. */
async function goesOn({ command }: NodeProcess, door: GrpcDoor, expected: string): Promise<void> {
  await registered(door, "kept", { staticLease: true });
  await registered(door, "short", { ttl: "1s" });
  await until("the lease ends", async () => {
    const found = await names(door);
    return found === expected ? [] : [found];
  });
  expect(command.isRunning).toBe(true);
  expect(rssMib(command.pid)).toBeLessThan(400);
}

test.each([
  { what: "thirty of thirty-one seeds", id: "most", honestCount: 1, liarCount: 30 },
  { what: "two of five seeds", id: "few", honestCount: 3, liarCount: 2 },
])(
  "$what answer with fields at their ends: a node finds the honest ones among them, and again after a restart",
  async ({ id, honestCount, liarCount }) => {
    await using parts = new AsyncDisposableStack();
    const honest: NodeProcess[] = [];
    for (let n = 0; n < honestCount; n++)
      honest.push(
        parts.use(await startKeptNode(data, `${id}-honest-${n}`, ...honest.slice(0, 1).flatMap((first) => ["--join", fabricOf(first)]))),
      );
    const honestDoor = parts.use(new GrpcDoor(honest[0]?.grpc ?? ""));
    await registered(honestDoor, "theirs", { staticLease: true });
    const liars: AnsweringPeer[] = [];
    for (let first = 0; first < liarCount; first++) {
      // Each call is answered with another change, and far from the one before.
      const answering: Answering = (method, n, peer) => changed(method, (first + n * liarCount) * 13, peer);
      liars.push(parts.use(await AnsweringPeer.start(`${id}-liar-${first}`, answering)));
    }
    const seeds = [...honest.map(fabricOf), ...liars.map(({ address }) => address)].join();
    for (const life of ["first", "second"]) {
      await using node = await startKeptNode(data, `${id}-node`, "--join", seeds);
      using door = new GrpcDoor(node.grpc);
      // One pass over all seeds comes before the first wait. In its second life others may have named some of them as members by then.
      await until(`each seed is asked in its ${life} life`, () => {
        const unasked = liars.filter(({ asked }) => life === "first" && asked.get("PushPull") === undefined);
        return unasked.map(({ nodeId }) => nodeId);
      });
      await goesOn(node, door, "kept,theirs");
      // What one node knows another knows a moment later.
      await expect.poll(() => names(honestDoor)).toBe("kept,theirs");
      await node.stop("SIGKILL");
    }
  },
);
