/**
 * Messages of a few kilobytes that become megabytes, thousands of them from a client without credentials: what they cost
 * the node's memory, and a client that is honest.
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { expect } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { Victim } from "../e2e/h2-victim.ts";
import { AnyClient } from "./any-call.ts";
import { sized } from "./effort.ts";

const ATTACKER = fileURLToPath(new URL("../e2e/gzip-attacker-child.ts", import.meta.url));
const MIB = 1_048_576;
/** Of them all, and of plain ones before. */
export const FLOOD_COUNT = sized(10_000, 3_000);
const stops: (() => void)[] = [];

interface Counts {
  readonly ok: number;
  readonly refused: number;
  readonly cut: number;
}

async function attacked(victim: Victim, kind: string, count: number): Promise<Counts> {
  const child = spawn(process.execPath, [ATTACKER, String(victim.port), kind, String(count)], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line) as Counts;
  throw new Error("the attacker ended without a word");
}

/** Runs it, and says how far memory rose meanwhile. */
async function risenMiB(victim: Victim, run: Promise<unknown>): Promise<number> {
  const before = victim.rssMiB();
  let peak = before;
  const timer = setInterval(() => {
    peak = Math.max(peak, victim.rssMiB());
  }, 5);
  await run;
  clearInterval(timer);
  return peak - before;
}

const MAX_RISEN_MIB = 64;
/** What inflating costs is there each time; a heap that is collected late, as others use the machine, is not. */
const TRIES = 3;

/** Runs the flood against a node of its own, and compares what it costs with the bounds. */
export async function expectGzipFloodBounded(kind: "grpc" | "edge" | "health"): Promise<void> {
  const risen: number[] = [];
  while (risen.length < TRIES && risen.every((mib) => mib >= MAX_RISEN_MIB)) {
    try {
      risen.push(await flood(kind));
    } finally {
      for (const stop of stops.splice(0)) stop();
    }
  }
  expect(Math.min(...risen)).toBeLessThan(MAX_RISEN_MIB);
}

/** How far memory rose, in MiB. */
async function flood(kind: "grpc" | "edge" | "health"): Promise<number> {
  const victim = await Victim.start(kind === "edge" ? "edge" : "grpc");
  stops.push(() => victim.stop());
  // As many calls that are plain: V8 grows with any thousands of streams, and keeps that.
  await attacked(victim, `plain-${kind}`, FLOOD_COUNT);
  const held = await victim.held();
  const honest = honestClient(victim, kind);
  const attack = attacked(victim, kind, FLOOD_COUNT);
  const answers = honest.until(attack);
  const risen = await risenMiB(victim, attack);
  const { ok, refused, cut } = await attack;
  expect(ok + refused + cut).toBe(FLOOD_COUNT);
  expect(await answers).not.toContain("refused");
  expect((await answers).length).toBeGreaterThan(3);
  const after = await victim.held();
  expect(after.externalBytes - held.externalBytes).toBeLessThan(8 * MIB);
  expect(after.heapBytes - held.heapBytes).toBeLessThan(8 * MIB);
  return risen;
}

/** Sends a kilobyte of gzip now and again. */
function honestClient(victim: Victim, kind: string) {
  const zipped = new AnyClient(`127.0.0.1:${victim.port}`, { isCompressed: true });
  stops.push(() => zipped[Symbol.dispose]());
  const call =
    kind === "edge"
      ? async () => {
          const body = gzipSync(`{ "namespace": "svc" ${" ".repeat(1_000)} }`);
          const headers = { "content-type": "application/json", "content-encoding": "gzip" };
          const url = `http://127.0.0.1:${victim.port}/waymark.discovery.v1.DiscoveryService/CatalogQuery`;
          return (await fetch(url, { method: "POST", body, headers })).status === 200;
        }
      : async () => (await zipped.call(DiscoveryService.method.catalogQuery, { namespace: "svc" })).code === "OK";
  return {
    until: async (over: Promise<unknown>): Promise<readonly string[]> => {
      const answers: string[] = [];
      const state = { isOver: false };
      void over.finally(() => {
        state.isOver = true;
      });
      while (!state.isOver) answers.push((await call()) ? "answered" : "refused");
      return answers;
    },
  };
}
