/** The driver: a machine's orders are carried out in their order, its deadlines kept, and its stop bounded. */
import { afterEach, describe, expect, test } from "vitest";
import type { KeyText } from "../../src/catalog/record/record.ts";
import type { LinkId } from "../../src/fabric/io-types.ts";
import { TRANSPORT_LIMITS } from "../../src/fabric/transport/limits.ts";
import type { TransportOptions } from "../../src/fabric/transport/transport.io.ts";
import type { LinkFrame } from "../../src/fabric/wire/messages.ts";
import { NEVER, type Time } from "../../src/lib/machine.ts";
import type { CoreDriver, DrivenMachine } from "../../src/node/core-driver.io.ts";
import type { NodeInput, NodeNotice, NodeOutput } from "../../src/node/core-io.ts";
import { driverOf as openDriver, stop } from "../fakes/core-driver.ts";
import { helloOf, nodeRef } from "../fakes/fabric-values.ts";
import { until } from "../fakes/until.ts";

const HELLO: LinkFrame = { kind: "hello", hello: helloOf("n1") };

/** Does as it is told, and writes down what it was told. */
class Script implements DrivenMachine {
  readonly inputs: { readonly input: NodeInput; readonly time: Time }[] = [];
  readonly queues = new Map<LinkId, LinkFrame[]>();
  on: (input: NodeInput, out: NodeOutput[], time: Time) => void = () => {};
  onPull: (out: NodeOutput[]) => void = () => {};
  readonly calls = { isStranger: () => false };
  readonly writeEligibility = { refusal: undefined };
  deadlineMonoMs: number | undefined;
  lookedMonoMs: number | undefined;
  /** Between two looks. */
  longestApartMs = 0;
  /** It has nothing to say to others when it departs. */
  isGoneAtOnce = true;
  depth = 0;
  deepest = 0;

  handle(input: NodeInput, time: Time, out: NodeOutput[]): void {
    this.depth += 1;
    this.deepest = Math.max(this.deepest, this.depth);
    this.inputs.push({ input, time });
    if (input.kind === "tick" && this.deadlineMonoMs !== undefined && time.monoMs >= this.deadlineMonoMs) this.deadlineMonoMs = undefined;
    this.on(input, out, time);
    if (input.kind === "depart" && this.isGoneAtOnce) out.push({ kind: "gone", reason: "restart" });
    this.depth -= 1;
  }

  nextDeadlineMs(): number {
    return this.deadlineMonoMs ?? NEVER;
  }

  durable(): number {
    return 0;
  }

  mustConfirm(): boolean {
    return false;
  }

  look({ monoMs }: Time): boolean {
    this.longestApartMs = Math.max(this.longestApartMs, monoMs - (this.lookedMonoMs ?? monoMs));
    this.lookedMonoMs = monoMs;
    return false;
  }

  show(): void {}

  pull(link: LinkId, _time: Time, out: NodeOutput[]): LinkFrame | undefined {
    const frame = this.queues.get(link)?.shift();
    if (frame !== undefined) this.onPull(out);
    return frame;
  }

  kinds(): readonly string[] {
    return this.inputs.map(({ input }) => input.kind);
  }

  count(kind: NodeInput["kind"]): number {
    return this.kinds().filter((each) => each === kind).length;
  }
}

const drivers: CoreDriver[] = [];

afterEach(async () => {
  await Promise.all(drivers.splice(0).map((driver) => stop(driver, "keep", 500)));
});

/** A driver that the test ends. */
function driverOf(script: Script, onTold?: (told: NodeNotice) => void): CoreDriver {
  const driver = openDriver(script, onTold);
  drivers.push(driver);
  return driver;
}

async function driven(script: Script, options: Partial<TransportOptions> = {}) {
  const outputs: NodeNotice[] = [];
  const driver = driverOf(script, (told) => outputs.push(told));
  await driver.open(openTransport(options));
  driver.begin();
  return { driver, outputs };
}

function openTransport(options: Partial<TransportOptions> = {}): TransportOptions {
  const open = {
    host: "127.0.0.1",
    port: 0,
    tls: undefined,
    isInsecure: false,
    clusterToken: "",
    onCut: () => {},
  };
  return { ...open, ...options };
}

function changed(name: string): NodeOutput {
  return { kind: "staticEnded", key: name as KeyText };
}

function namesOf(outputs: readonly NodeOutput[]): readonly string[] {
  return outputs.flatMap((output) => (output.kind === "staticEnded" ? [output.key] : []));
}

describe("orders and inputs", () => {
  test("orders come out in their order, those of a pull among them, and no input comes while another is handled", async () => {
    const [script, peer] = [new Script(), new Script()];
    const { driver, outputs } = await driven(script);
    const { driver: other } = await driven(peer);
    script.onPull = (out) => out.push(changed("pulled"));
    script.on = (input, out) => {
      if (input.kind === "opened") {
        script.queues.set(2, [HELLO]);
        out.push(changed("before"), { kind: "send", link: 2 }, changed("after"));
      }
      // A call that cannot be made is answered while the order is carried out.
      if (input.kind === "serve") out.push({ kind: "call", call: 7, to: "127.0.0.1:1", request: ASK, timeoutMs: 500 }, changed("called"));
      if (input.kind === "answered") out.push(changed("answered"));
    };
    script.inputs.length = 0;
    driver.input({ kind: "serve" });
    await until("answered", () => namesOf(outputs).includes("answered"));
    expect(namesOf(outputs)).toEqual(["called", "answered"]);
    outputs.length = 0;
    const open: NodeOutput = { kind: "open", link: 2, to: other.address };
    const { on } = script;
    script.on = (input, out, time) => (input.kind === "policyRead" ? void out.push(open) : on(input, out, time));
    driver.input({ kind: "policyRead", number: 1, bytes: undefined });
    await until("the peer has the frame", () => peer.count("received") === 1);
    expect(namesOf(outputs)).toEqual(["before", "after", "pulled"]);
    expect(peer.kinds().filter((kind) => kind !== "tick")).toEqual(["begin", "opened", "received"]);
    expect([script.deepest, peer.deepest]).toEqual([1, 1]);
  });

  test("an input given while orders are carried out waits for the orders before it", async () => {
    const script = new Script();
    const seen: string[] = [];
    const driver: CoreDriver = driverOf(script, (told) => {
      seen.push(...namesOf([told]));
      if (seen.length === 1) driver.input({ kind: "policyRead", number: 1, bytes: undefined });
    });
    script.on = (input, out) => {
      if (input.kind === "serve") out.push(changed("1"), changed("2"));
      if (input.kind === "policyRead") out.push(changed("3"));
    };
    await driver.open(openTransport());
    driver.begin();
    driver.input({ kind: "serve" });
    expect(seen).toEqual(["1", "2", "3"]);
    expect(script.deepest).toBe(1);
  });

  test("what is due at once is done when this turn of the event loop is over", async () => {
    const script = new Script();
    const { driver } = await driven(script);
    script.deadlineMonoMs = performance.now() - 1;
    const before = script.count("tick");
    driver.input({ kind: "serve" });
    expect(script.count("tick")).toBe(before);
    await until("told", () => script.count("tick") > before);
    expect(script.deadlineMonoMs).toBeUndefined();
  });

  test("deadlines are kept with one timer, an earlier one before a later", async () => {
    const script = new Script();
    const { driver } = await driven(script);
    const start = performance.now();
    script.deadlineMonoMs = start + 60_000;
    driver.input({ kind: "serve" });
    script.deadlineMonoMs = start + 100;
    driver.input({ kind: "serve" });
    const before = script.count("tick");
    await until("a tick came", () => script.deadlineMonoMs === undefined);
    expect(performance.now() - start).toBeGreaterThanOrEqual(99);
    expect(script.count("tick") - before).toBeLessThanOrEqual(2);
  });

  test("the machine looks at the clock before anything else when the event loop was late", async () => {
    const script = new Script();
    const { driver } = await driven(script);
    const end = performance.now() + 600;
    while (performance.now() < end); // The lateness itself.
    driver.input({ kind: "serve" });
    expect(script.longestApartMs).toBeGreaterThan(450);
    await until("it looks again by itself", () => (script.lookedMonoMs ?? 0) > end + 100);
  });
});

const ASK = { kind: "pushPull", from: nodeRef("n1"), isJoin: true, members: [] } as const;

describe("the end", () => {
  test("goodbyes are sent, links closed, the listener gone, all within the bound", async () => {
    const [script, peer] = [new Script(), new Script()];
    const { driver } = await driven(script);
    const { driver: other } = await driven(peer);
    script.on = (input, out) => {
      if (input.kind === "serve") out.push({ kind: "open", link: 2, to: other.address });
      if (input.kind === "opened") {
        script.queues.set(2, [HELLO]);
        out.push({ kind: "send", link: 2 });
      }
      if (input.kind === "depart") {
        script.queues.set(2, [{ kind: "goodbye", reason: "leave", detail: "" }]);
        out.push({ kind: "close", link: 2 });
      }
      if (input.kind === "closed") out.push({ kind: "gone", reason: "leave" });
    };
    script.isGoneAtOnce = false;
    driver.input({ kind: "serve" });
    await until("linked", () => peer.count("received") === 1);
    const start = performance.now();
    await stop(driver, "leave", 60_000);
    expect(performance.now() - start).toBeLessThan(30_000);
    await until("the peer heard", () => peer.count("closed") === 1);
    expect(peer.inputs.map(({ input }) => (input.kind === "received" ? input.frame : undefined))).toContainEqual({
      kind: "goodbye",
      reason: "leave",
      detail: "",
    });
    const told = script.inputs.length;
    driver.input({ kind: "serve" });
    expect(script.inputs.length).toBe(told);
    expect(driver.stats().map(({ direction, kind, frameCount }) => [direction, kind, frameCount])).toEqual([
      ["sent", "hello", 1],
      ["sent", "goodbye", 1],
    ]);
  });

  test("a machine that does not close its links is stopped all the same", async () => {
    const [script, peer] = [new Script(), new Script()];
    const { driver } = await driven(script);
    const { driver: other } = await driven(peer);
    script.on = (input, out) => {
      if (input.kind === "serve") out.push({ kind: "open", link: 2, to: other.address });
      if (input.kind === "opened") script.queues.set(2, [HELLO]);
      if (input.kind === "opened") out.push({ kind: "send", link: 2 });
    };
    driver.input({ kind: "serve" });
    await until("linked", () => peer.count("received") === 1);
    const start = performance.now();
    await stop(driver, "keep", 600);
    expect(performance.now() - start).toBeLessThan(30_000);
    await until("the peer heard", () => peer.count("closed") === 1);
  });

  test("the machine hears of each stranger turned away", async () => {
    const script = new Script();
    const { driver } = await driven(script, { limits: { ...TRANSPORT_LIMITS, helloTimeoutMs: 100 } });
    const peer = new Script();
    const { driver: other } = await driven(peer);
    peer.on = (input, out) => {
      if (input.kind === "serve") for (let i = 1; i <= 30; i++) out.push({ kind: "open", link: 2 * i, to: driver.address });
    };
    other.input({ kind: "serve" });
    await until("all are turned away", () => script.count("strangerRefused") === 30);
    expect(script.count("opened")).toBe(0);
  });

  test("a peer that opens links and ends them while it stops, or while this node does, is no stranger that was refused", async () => {
    const [script, peer] = [new Script(), new Script()];
    const { driver, outputs } = await driven(script);
    const { driver: other } = await driven(peer);
    peer.on = (input, out) => {
      if (input.kind === "serve") for (const link of [2, 4, 6]) out.push({ kind: "open", link, to: driver.address });
      if (input.kind === "opened" && input.link === 2) out.push({ kind: "close", link: 2 });
    };
    other.input({ kind: "serve" });
    await until("links without a word", () => peer.count("opened") === 3 && driver.counts()?.links === 2);
    await stop(other, "keep", 100);
    await until("they are gone", () => driver.counts()?.links === 0);
    const third = new Script();
    const { driver: last } = await driven(third);
    third.on = (input, out) => {
      if (input.kind === "serve") out.push({ kind: "open", link: 2, to: driver.address });
    };
    last.input({ kind: "serve" });
    await until("one more", () => driver.counts()?.links === 1);
    await stop(driver, "keep", 100);
    expect([script.count("strangerRefused"), ...outputs]).toEqual([0]);
  });

  test("the machine hears by whom it is refused, and who is not there", async () => {
    const [script, peer] = [new Script(), new Script()];
    const { driver } = await driven(script);
    const { driver: other } = await driven(peer);
    const gone = await driven(new Script());
    await stop(gone.driver, "keep", 100);
    peer.on = (input, out) => {
      if (input.kind === "asked") out.push({ kind: "answer", call: input.call, response: undefined });
    };
    const request = { kind: "pushPull", from: nodeRef("n1"), isJoin: true, members: [] } as const;
    script.on = (input, out) => {
      if (input.kind !== "serve") return;
      for (const [i, to] of [other.address, gone.driver.address, other.address, gone.driver.address].entries())
        out.push({ kind: "call", call: i + 1, to, request, timeoutMs: 30_000 });
    };
    driver.input({ kind: "serve" });
    await until("all are answered", () => script.count("answered") === 4);
    const told = script.inputs.flatMap(({ input }) => (input.kind === "unanswered" ? [`${input.isRefused} ${input.address}`] : []));
    expect(new Set(told)).toEqual(new Set([`false ${gone.driver.address}`, `true ${other.address}`]));
  });
});
