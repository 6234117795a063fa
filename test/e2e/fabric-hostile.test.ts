/**
 * Hostile HTTP/2 against the fabric listener, from a process of its own: the attacker is cut, a link and the calls of a
 * node beside it go on, memory stays bounded.
 * @module-tag path
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { LinkFrame } from "../../src/fabric/wire/messages.ts";
import { some } from "../fakes/effort.ts";
import { type FakeMachine, openTestTransport } from "../fakes/fabric-transport.ts";
import { helloOf, nodeRef } from "../fakes/fabric-values.ts";
import { until } from "../fakes/until.ts";
import { ATTACKS, type AttackResult } from "./h2-attacks.ts";

type Node = Awaited<ReturnType<typeof openTestTransport>>;
const HELLO: LinkFrame = { kind: "hello", hello: helloOf("n1") };

let honest: Node;
let victim: Node;
let calmMiB = 0;
let nextCall = 0;

beforeAll(async () => {
  [honest, victim] = [await openTestTransport(), await openTestTransport()];
  honest.greeting = HELLO;
  victim.greeting = HELLO;
  victim.answer = () => ({ kind: "probe", from: nodeRef("b"), updates: [] });
  honest.transport.openLink(2, victim.transport.address);
  await until("linked", () => frameCount(honest) === 1);
  calmMiB = process.memoryUsage.rss() / 2 ** 20;
});

afterAll(() => Promise.all([honest.transport.stop(500), victim.transport.stop(500)]));

function frameCount(node: FakeMachine): number {
  return [...node.links.values()][0]?.frames.length ?? 0;
}

async function attacked(name: string): Promise<AttackResult> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL("h2-attacker-child.ts", import.meta.url)), String(victim.transport.port), name],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  for await (const line of createInterface({ input: child.stdout })) return JSON.parse(line) as AttackResult;
  throw new Error("the attacker ended without a word");
}

/** A probe a tenth of a second until it is over; how many were answered in time. */
async function probed(over: Promise<unknown>): Promise<{ readonly asked: number; readonly answered: number }> {
  const state = { isOver: false };
  const end = () => {
    state.isOver = true;
  };
  over.then(end, end);
  const first = nextCall + 1;
  while (!state.isOver) {
    nextCall += 1;
    honest.transport.call(
      nextCall,
      victim.transport.address,
      { kind: "probe", from: nodeRef("a"), targetNodeId: "b", updates: [] },
      60_000,
    );
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const asked = nextCall - first + 1;
  const answers = () => Array.from({ length: asked }, (_, i) => first + i).filter((call) => honest.answers.has(call));
  await until("all calls have ended", () => answers().length === asked);
  return { asked, answered: answers().filter((call) => honest.answers.get(call) !== undefined).length };
}

test.each(some(Object.keys(ATTACKS)))("%s: cut, and the fabric goes on", async (name) => {
  const attack = attacked(name);
  const { asked, answered } = await probed(attack);
  expect(await attack).toMatchObject({ isCut: true });
  expect(answered).toBe(asked);
  const before = frameCount(victim);
  honest.say(2, { kind: "linked", nodeIds: ["x"] });
  await until("the link carries on", () => frameCount(victim) > before);
  expect([...victim.links.values()].map(({ closed }) => closed)).toEqual([undefined]);
});

test("after all of it memory is where it was, but for what garbage collection leaves, and only the honest are connected", async () => {
  await until("memory is where it was", () => process.memoryUsage.rss() / 2 ** 20 - calmMiB < 200);
  await until("only the link and the probes", () => victim.transport.counts().connections <= 2);
  expect(victim.transport.counts()).toMatchObject({ links: 1, calls: 0, bufferedBytes: 0 });
});
