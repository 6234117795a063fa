/** The policy as a resolver gets it: every version that may be in force there, whole, before the state that names it. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  WatchPolicyRequestSchema as RequestSchema,
  type WatchPolicyRequestSchema,
  type WatchPolicyResponse,
  WatchPolicyResponseSchema,
} from "../../gen/waymark/policy/v1/policy_pb.js";
import { assert } from "../../src/lib/errors.ts";
import type { Caller } from "../../src/policy/identity/caller.ts";
import { decodeVersion } from "../../src/policy/versions/codec.ts";
import { auditHandlers } from "../../src/services/audit.ts";
import { policyService } from "../../src/services/policy.ts";
import type { StreamSource } from "../../src/services/service.ts";
import { openMemoryStore } from "../../src/store/control/sqlite.io.ts";
import { rule, set } from "../fakes/policies.ts";
import { Bench, TERMS } from "../fakes/policy-bench.ts";

const RESOLVER: Caller = {
  principal: "r",
  tenant: "",
  cluster: "eu-1",
  roles: ["mesh.resolve"],
  isAuthenticated: true,
  address: "192.0.2.1",
};
const TIME = { monoMs: 0, wallMs: 0 };

class World {
  readonly bench = new Bench(openMemoryStore());
  readonly wakes = new Set<() => void>();
  isTls = true;

  constructor() {
    this.bench.onHead = () => this.wake();
  }

  wake(): void {
    for (const wake of this.wakes) wake();
  }

  open(request: MessageInitShape<typeof WatchPolicyRequestSchema> = {}, caller = RESOLVER): Reader {
    const service = policyService({
      policyStore: this.bench.policyStore,
      tasks: this.bench.tasks,
      regionOf: () => "eu",
      secure: () => () => {},
      notTaken: () => "",
      reaches: () => true,
      audit: auditHandlers({} as never),
      servedBy: "n1",
      isTls: this.isTls,
      onChange: (wake) => {
        this.wakes.add(wake);
        return () => this.wakes.delete(wake);
      },
    });
    const handler = service.handlers["watchPolicy"];
    if (handler?.kind !== "server_streaming") throw new Error("no watchPolicy");
    return new Reader(handler.open(create(RequestSchema, request) as never, { caller, time: TIME, requestId: "" }));
  }
}

class Reader {
  readonly source: StreamSource;
  readonly messages: WatchPolicyResponse[] = [];

  constructor(source: StreamSource) {
    this.source = source;
    source.attach(
      () => this.#pull(),
      () => undefined,
    );
    this.#pull();
  }

  #pull(): void {
    for (let bytes = this.source.pull(TIME); bytes !== undefined; bytes = this.source.pull(TIME))
      this.messages.push(fromBinary(WatchPolicyResponseSchema, bytes));
  }

  /** What came since the last call, when all that was to be read is read: versions by label, and states by numbers and epoch. */
  async told(): Promise<readonly string[]> {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    const texts: string[] = [];
    let bytes = new Uint8Array(0);
    for (const { part, state, servedBy } of this.messages.splice(0)) {
      assert(servedBy === "n1", "the node names itself");
      if (part !== undefined) {
        assert(part.offset === bytes.length && part.bytes.length <= 256 * 1024, "parts follow each other, and each is small");
        bytes = Buffer.concat([bytes, part.bytes]);
        if (bytes.length < part.sizeBytes) continue;
        const read = decodeVersion(bytes);
        texts.push(read.ok ? `version ${read.version.number} ${read.version.version}` : read.fault);
        bytes = new Uint8Array(0);
      }
      if (state !== undefined) texts.push(`${state.versions.map(({ number }) => number).join(",")} ${state.policyEpoch.split("-")[0]}`);
    }
    return texts;
  }
}

test("without a policy the state says so; each version is sent once, before the state that names it", async () => {
  const world = new World();
  const reader = world.open();
  expect(await reader.told()).toEqual([" none"]);
  await world.bench.apply(set([rule("a")], { version: "first" }));
  expect(await reader.told()).toEqual(["version 1 first", "1 1"]);
  world.wake();
  expect(await reader.told()).toEqual([]);
  await world.bench.apply(set([rule("b")], { version: "second" }));
  expect(await reader.told()).toEqual(["version 2 second", "2 2"]);
  expect(await world.open().told()).toEqual(["version 2 second", "2 2"]);
});

test("a version is handed out in the turn in which it comes into force, before any reader of the catalog can be shown what it allows", async () => {
  const world = new World();
  const reader = world.open();
  await reader.told();
  const { onHead } = world.bench;
  let toldAtOnce: readonly (string | undefined)[] = [];
  world.bench.onHead = (head) => {
    onHead(head);
    toldAtOnce = reader.messages.map(({ state }) => state?.policyEpoch.split("-")[0]);
  };
  await world.bench.apply(set([rule("a")], { version: "first" }));
  expect(toldAtOnce).toEqual([undefined, "1"]);
});

test("behind a version with a stage comes the one that is in force elsewhere", async () => {
  const world = new World();
  await world.bench.apply(set([rule("a")], { version: "first" }));
  await world.bench.apply(set([rule("b")], { version: "whole" }));
  const terms = { ...TERMS, stage: { by: "clusters" as const, clusterIds: ["us-1"] } };
  await world.bench.apply(set([rule("c")], { version: "staged" }), terms as never);
  expect(await world.open().told()).toEqual(["version 3 staged", "version 2 whole", "3,2 2"]);
});

test("a version that the reader has is not sent again, and another one of its number is", async () => {
  const world = new World();
  await world.bench.apply(set([rule("a")], { version: "first" }));
  const { number, hlc, nodeId, checksum } = world.bench.engine.place;
  const known = { number: BigInt(number), hlc: BigInt(hlc), nodeId, checksum };
  expect(await world.open({ known: [known] }).told()).toEqual(["1 1"]);
  expect(await world.open({ known: [{ ...known, hlc: 1n }] }).told()).toEqual(["version 1 first", "1 1"]);
});

test("a large version comes in parts, and one that was replaced meanwhile is not finished as another", async () => {
  const world = new World();
  const many = Array.from({ length: 3000 }, (_, i) => rule(`ns${i}`, { owners: ["eu-1"] }));
  await world.bench.apply(set(many, { version: "large" }));
  const reader = world.open();
  await world.bench.apply(set([rule("b")], { version: "small" }));
  const told = await reader.told();
  expect(told.at(-1)).toBe("2 2");
  expect(told).toContain("version 2 small");
  expect(await world.open().told()).toEqual(["version 2 small", "2 2"]);
});

test("it is served to resolvers, and beyond loopback over TLS only; a closed stream is woken no more", async () => {
  const world = new World();
  expect(() => world.open({}, { ...RESOLVER, roles: ["mesh.admin"] })).toThrow("mesh.resolve");
  world.isTls = false;
  expect(() => world.open()).toThrow("over TLS only");
  const reader = world.open({}, { ...RESOLVER, address: "127.0.0.1" });
  expect(await reader.told()).toEqual([" none"]);
  reader.source.close();
  expect(world.wakes.size).toBe(0);
});
