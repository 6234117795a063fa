/** What a DNS process of a resolver asks the resolver for: how long it tells what it was told, and what bounds it. */
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../src/catalog/entry/names.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { NameRequests } from "../../src/services/resolving/name-requests.ts";
import type { ProcessAnswer, ProcessQuestion } from "../../src/services/resolving/process-exchange.ts";
import { ReceivedNames } from "../../src/services/resolving/received-names.ts";

const TIME = { seconds: 1n, nanos: 0 };
const nameOf = (name: string, namespace = "svc") => ({ kind: KIND.SERVICE, namespace, name });

function entryOf(name: string, hostLabels = 1): Uint8Array {
  const key = { kind: KIND.SERVICE, namespace: "svc", name, instanceId: "1", clusterId: "c1" };
  const targets = [{ host: `${"h".repeat(50)}.`.repeat(hostLabels).slice(0, -1), port: 80 }];
  return toBinary(
    EntrySchema,
    create(EntrySchema, {
      key,
      nodeId: "n",
      clusterId: "c1",
      region: "r",
      scope: Scope.ZONE,
      targets,
      registeredAt: TIME,
      updatedAt: TIME,
    }),
  );
}

const MAX_BYTES = 10_000;
class World {
  ms = 0;
  readonly slab = new Slab();
  readonly asked: { readonly question: ProcessQuestion; readonly tell: (answer: ProcessAnswer | undefined) => void }[] = [];
  readonly names = new ReceivedNames({
    slab: this.slab,
    stamper: new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() }),
    maxBytes: MAX_BYTES,
  });
  readonly told: (string | undefined)[] = [];
  readonly all = new NameRequests({
    names: this.names,
    ask: (question, tell) => void this.asked.push({ question, tell }),
    now: () => ({ monoMs: this.ms, wallMs: this.ms }),
  });

  constructor() {
    this.all.heard({ prefixes: ["here"], doubted: [], isCutOff: false, letGoCount: 0 });
  }

  ask(name: string, namespace?: string): string {
    try {
      return this.all.ask(nameOf(name, namespace), {}, (error) => this.told.push(error?.reason))?.source ?? "waits";
    } catch (error) {
      return error instanceof WaymarkError ? error.reason : "bug";
    }
  }

  /** Answers the first question that has no answer. */
  answer(leftMs = 15_000, hostLabels = 1): void {
    const next = this.asked.shift();
    if (next?.question.kind !== "fetch") throw new Error("nothing was asked");
    const { name } = next.question.name;
    next.tell({ name: { entries: [{ bytes: entryOf(name, hostLabels), isOrphaned: false, nodeId: "n" }], ageMs: 0, leftMs } });
  }
}

test("what was told is told for a second, and asked for again in its second half; those who ask meanwhile wait for one answer", () => {
  const world = new World();
  expect([world.ask("db"), world.ask("db"), world.asked.length]).toEqual(["waits", "waits", 1]);
  world.answer();
  expect([world.told, world.ask("db"), world.asked.length]).toEqual([[undefined, undefined], "fetched", 0]);
  const first = world.all.markOf(nameOf("db"));
  world.ms = 600;
  expect([world.ask("db"), world.ask("db"), world.asked.length]).toEqual(["fetched", "fetched", 1]);
  expect(world.all.leftMs(nameOf("db"), { monoMs: 600, wallMs: 0 })).toBe(14_400);
  world.answer();
  expect(world.all.markOf(nameOf("db"))).not.toBe(first);
  world.ms = 1600;
  expect([world.ask("db"), world.all.leftMs(nameOf("db"), { monoMs: 1600, wallMs: 0 })]).toEqual(["waits", 0]);
  world.asked[0]?.tell(undefined);
  expect(world.told.at(-1)).toBe("not_ready");
});

test("a thousand names are asked for at a time, and more are not known; an answer makes room", () => {
  const world = new World();
  const said = Array.from({ length: 1001 }, (_, i) => world.ask(`n${i}`));
  expect([said.filter((each) => each === "waits").length, said.at(-1), world.asked.length]).toEqual([1000, "not_ready", 1000]);
  world.answer();
  expect(world.ask("more")).toBe("waits");
});

test("what is kept is bounded in bytes: the oldest goes, with its memory, and one that is too large stays for those who wait for it", () => {
  const world = new World();
  for (let i = 0; i < 100; i++) {
    world.ask(`n${i}`);
    world.answer(15_000, 4);
    expect(world.names.sizeBytes).toBeLessThanOrEqual(MAX_BYTES);
  }
  expect([world.names.find(nameOf("n0")), world.ask("n99")]).toEqual([undefined, "fetched"]);
  const usedBytes = world.slab.stats().usedBytes;
  for (let i = 0; i < 100; i++) {
    world.ask(`m${i}`);
    world.answer(15_000, 4);
  }
  expect(world.slab.stats().usedBytes).toBe(usedBytes);
  expect(world.names.lookup.size).toBeLessThan(20);
});

test("a namespace is not complete while one at or below it is doubted; of what is followed the resolver hears once a second that it is asked for", () => {
  const world = new World();
  expect([world.ask("a", "here"), world.ask("b", "here"), world.ask("a", "here.below")]).toEqual(["followed", "followed", "followed"]);
  expect(world.asked.map(({ question }) => question.kind === "fetch" && question.isReminder)).toEqual([true, true]);
  world.ms = 1000;
  world.ask("a", "here");
  expect(world.asked).toHaveLength(3);
  world.all.heard({ prefixes: [""], doubted: ["here.below"], isCutOff: true, letGoCount: 1 });
  expect(["", "here", "here.below", "here.belows", "other"].map((each) => world.all.isComplete(each))).toEqual([
    false,
    false,
    false,
    true,
    true,
  ]);
  expect(world.ask("a", "here.below")).toBe("waits");
});

test("of a thousand namespaces it is remembered that the resolver was reminded: one of more is said again", () => {
  const world = new World();
  const asked = (i: number) => {
    world.ask("a", `here.n${i}`);
    return world.asked.length;
  };
  for (let i = 0; i < 1000; i++) asked(i);
  expect([asked(0), asked(999), asked(1000), asked(0)]).toEqual([1000, 1000, 1001, 1002]);
});
