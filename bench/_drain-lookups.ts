/** Lookups at a fixed rate on all nodes while one of them is drained: exact queries over gRPC, and DNS questions for services and for the nodes themselves. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { decode, encode } from "dns-packet";
import { MAX_WAIT_MS } from "./_lookings.ts";
import { hostOf, idOf, type OperatorFleet } from "./_operator-fleet.ts";
import { listenerOf } from "./_processes.ts";
import { percentile } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, fail, INSTANCES, itemsIn, NAMESPACE, PATH } from "./_work.ts";

const TURN_MS = 5;
/** A turn of this process that is longer (ms) does not count: this process was late, and not the answers. */
const LONGEST_TURN_MS = 50;
/** One lookup in ten is a DNS question, and one DNS question in four asks for the drained node. */
const [DNS_SHARE, NODE_SHARE] = [10, 4];
const UDP_BYTES = 4096;
const NXDOMAIN = 3;
const MAX_SHOWN = 20;

/** An answer that contains the address of the drained node. */
interface NamedNode {
  readonly atMs: number;
  readonly ttlMs: number;
}

interface Open {
  readonly what: string;
  readonly sentMs: number;
  /** In the time in which this process was not late. */
  readonly sentAwakeMs: number;
}

export class DrainLookups {
  readonly #fleet: OperatorFleet;
  readonly #drained: number;
  readonly #nodeName: string;
  readonly #wires: readonly Wire[];
  readonly #sockets: readonly Socket[];
  readonly #questions: readonly Buffer[];
  readonly #queries: readonly Uint8Array[];
  readonly #open = new Map<number, Open>();
  #sent = 0;
  #awakeMs = 0;
  readonly tookMs: number[] = [];
  /** How much later than planned each lookup was sent. */
  readonly lateMs: number[] = [];
  readonly faults = new Map<string, number>();
  readonly named: NamedNode[] = [];
  /** Refused, or without an answer in time. */
  failed = 0;
  /** Answers without an entry that is registered. */
  absent = 0;

  private constructor(fleet: OperatorFleet, drained: number, services: number, wires: readonly Wire[], sockets: readonly Socket[]) {
    this.#fleet = fleet;
    this.#drained = drained;
    this.#wires = wires;
    this.#sockets = sockets;
    this.#queries = Array.from({ length: services }, (_, service) => exactQuery(service));
    const names = Array.from({ length: services }, (_, service) => `service-${service}.${NAMESPACE}.waymark`);
    this.#nodeName = `${idOf(drained)}.node.waymark`;
    this.#questions = [this.#nodeName, ...names].map(questionBytes);
    sockets.forEach((socket) => socket.on("message", (bytes: Buffer) => this.#answered(bytes)));
  }

  static async open(fleet: OperatorFleet, drained: number, services: number): Promise<DrainLookups> {
    const wires = await Promise.all(fleet.nodes.map(({ grpc }) => Wire.open(grpc)));
    const sockets = await Promise.all(
      fleet.nodes.map(async (node) => {
        const { host, port } = listenerOf(node, "dns");
        const socket = createSocket("udp4");
        socket.connect(port, host);
        await once(socket, "connect");
        return socket;
      }),
    );
    return new DrainLookups(fleet, drained, services, wires, sockets);
  }

  /** Begins. The result ends the lookups, and waits for the open ones. */
  start(perSecond: number): () => Promise<void> {
    const startMs = performance.now();
    let [turnMs, isOver] = [startMs, false];
    const over = Promise.withResolvers<void>();
    const timer = setInterval(() => {
      const nowMs = performance.now();
      this.#awakeMs += Math.min(nowMs - turnMs, LONGEST_TURN_MS);
      turnMs = nowMs;
      const due = isOver ? 0 : Math.floor(((nowMs - startMs) * perSecond) / 1000);
      while (this.#sent < due) {
        this.lateMs.push(nowMs - startMs - (this.#sent * 1000) / perSecond);
        this.#send(this.#sent++);
      }
      for (const [number, { sentAwakeMs }] of this.#open) {
        if (this.#awakeMs - sentAwakeMs < MAX_WAIT_MS) break;
        this.#end(number, "no answer");
      }
      if (isOver && this.#open.size === 0) over.resolve();
    }, TURN_MS);
    return async () => {
      isOver = true;
      await over.promise;
      clearInterval(timer);
      for (const wire of this.#wires) wire.close();
      for (const socket of this.#sockets) socket.close();
    };
  }

  get row() {
    const { tookMs, lateMs, failed, absent } = this;
    const late = { "late p99 ms": percentile(lateMs, 0.99), "late at most ms": percentile(lateMs, 1) };
    return {
      lookups: this.#sent,
      failed,
      "an entry absent": absent,
      "p50 ms": percentile(tookMs, 0.5),
      "p99 ms": percentile(tookMs, 0.99),
      ...late,
    };
  }

  #send(number: number): void {
    const isDns = number % DNS_SHARE === 0;
    const turn = isDns ? number / DNS_SHARE : number;
    // Not a multiple of the number of nodes, so that each node gets each question.
    const node = (isDns ? turn : Math.floor(number / DNS_SHARE) + number) % this.#wires.length;
    const at = (what: string): Open => ({ what: `${what} to ${idOf(node)}`, sentMs: performance.now(), sentAwakeMs: this.#awakeMs });
    if (isDns) {
      const question = this.#questions[turn % NODE_SHARE === 0 ? 0 : 1 + (turn % (this.#questions.length - 1))] ?? fail();
      const id = turn & 0xffff;
      question.writeUInt16BE(id);
      this.#open.set(-1 - id, at("a question"));
      this.#sockets[node]?.send(Buffer.from(question));
      return;
    }
    const service = turn % this.#queries.length;
    this.#open.set(number, at(`a query for service-${service}`));
    (this.#wires[node] ?? fail()).unary(PATH.query, this.#queries[service] ?? fail()).then(
      (bytes) => this.#end(number, "", itemsIn(this.#fleet.nodes[node] ?? fail(), bytes)),
      (error: unknown) => this.#end(number, String(error)),
    );
  }

  #answered(bytes: Buffer): void {
    const { id = 0, answers = [], questions = [] } = decode(bytes);
    const isNode = questions[0]?.name === this.#nodeName;
    for (const answer of answers)
      if (answer.type === "A" && answer.data === hostOf(this.#drained))
        this.named.push({ atMs: performance.now(), ttlMs: (answer.ttl ?? 0) * 1000 });
    // RFC 1035, 4.1.1.
    const rcode = (bytes[3] ?? 0) & 15;
    const isGood = rcode === 0 || (isNode && rcode === NXDOMAIN);
    this.#end(-1 - id, isGood ? "" : `answered with code ${rcode}`, isNode ? INSTANCES : answers.length);
  }

  #end(number: number, fault: string, entries = INSTANCES): void {
    const open = this.#open.get(number);
    if (open === undefined) return;
    this.#open.delete(number);
    this.tookMs.push(performance.now() - open.sentMs);
    if (fault !== "") this.failed += 1;
    else if (entries !== INSTANCES) this.absent += 1;
    else return;
    const why = `${fault === "" ? "absent" : fault} ${/ to .*/.exec(open.what)?.[0]}`;
    this.faults.set(why, (this.faults.get(why) ?? 0) + 1);
    if (this.failed + this.absent <= MAX_SHOWN || fault === "")
      console.error(`${new Date().toISOString()} ${open.what}: ${fault === "" ? `${entries} of ${INSTANCES} entries` : fault}`);
  }
}

function questionBytes(name: string): Buffer {
  const opt = { type: "OPT", name: ".", udpPayloadSize: UDP_BYTES, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false } as const;
  return encode({ type: "query", id: 0, questions: [{ type: "A", name }], additionals: [{ ...opt, options: [] }] });
}
