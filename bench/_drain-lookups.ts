/** Lookups at a fixed rate on all nodes while one of them is drained: exact queries over gRPC, and DNS questions for services and for the drained node. */
import { createSocket, type Socket } from "node:dgram";
import { setImmediate as nextTurn } from "node:timers/promises";
import { decode, encode } from "dns-packet";
import { MAX_WAIT_MS } from "./_lookings.ts";
import { sleep } from "./_mesh.ts";
import { hostOf, idOf, type OperatorFleet } from "./_operator-fleet.ts";
import { listenerOf, type Node } from "./_processes.ts";
import { percentile } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, fail, INSTANCES, itemsIn, NAMESPACE, PATH } from "./_work.ts";

const TURN_MS = 5;
/** One lookup in ten is a DNS question, and one DNS question in three asks for the drained node. */
const [DNS_SHARE, NODE_SHARE] = [10, 3];
/** To each node. Together, they have room for all lookups of the longest wait: a node ends a connection with more than 128 calls. */
const [CONNECTIONS, CALLS_PER_CONNECTION] = [10, 100];
const UDP_BYTES = 4096;
const MAX_LOGGED = 20;

export class DrainLookups {
  readonly #fleet: OperatorFleet;
  readonly #drained: number;
  readonly #services: number;
  /** For each node, a connection for each call that can begin. */
  readonly #free: readonly Wire[][];
  readonly #sockets: readonly Socket[];
  readonly #asked = new Map<number, (answer: Buffer) => void>();
  readonly #open = new Set<Promise<void>>();
  #sent = 0;
  readonly #tookMs: number[] = [];
  /** How much later than planned each lookup was sent. */
  readonly #lateMs: number[] = [];
  /** DNS answers that contain the address of the drained node: when each came, and its TTL. */
  readonly named: { readonly atMs: number; readonly ttlMs: number }[] = [];
  #failed = 0;
  #absent = 0;

  private constructor(fleet: OperatorFleet, drained: number, services: number, free: readonly Wire[][]) {
    this.#fleet = fleet;
    this.#drained = drained;
    this.#services = services;
    this.#free = free;
    const onMessage = (bytes: Buffer) => this.#asked.get(bytes.readUInt16BE())?.(bytes);
    this.#sockets = free.map(() => createSocket("udp4").on("message", onMessage));
  }

  /** Lookups of services 0 up to `services`. */
  static async open(fleet: OperatorFleet, drained: number, services: number): Promise<DrainLookups> {
    const open = ({ grpc }: Node) => Promise.all(Array.from({ length: CONNECTIONS }, () => Wire.open(grpc)));
    const wires = await Promise.all(fleet.nodes.map(open));
    const free = wires.map((own) => Array.from({ length: CALLS_PER_CONNECTION }, () => own).flat());
    return new DrainLookups(fleet, drained, services, free);
  }

  /** Begins. The result ends the lookups, and waits for the open ones. */
  start(perSecond: number): () => Promise<void> {
    const startMs = performance.now();
    const timer = setInterval(() => {
      const ms = performance.now() - startMs;
      while (this.#sent < Math.floor((ms * perSecond) / 1000)) {
        this.#lateMs.push(ms - (this.#sent * 1000) / perSecond);
        const looking = this.#look(this.#sent++).finally(() => this.#open.delete(looking));
        this.#open.add(looking);
      }
    }, TURN_MS);
    return async () => {
      clearInterval(timer);
      await Promise.all(this.#open);
      for (const each of [...new Set(this.#free.flat()), ...this.#sockets]) each.close();
    };
  }

  get row() {
    const [took, late] = [this.#tookMs, this.#lateMs];
    const times = { "p50 ms": percentile(took, 0.5), "p99 ms": percentile(took, 0.99) };
    const lateness = { "sent late p99 ms": percentile(late, 0.99), "sent late at most ms": percentile(late, 1) };
    return { lookups: this.#sent, failed: this.#failed, "an entry absent": this.#absent, ...times, ...lateness };
  }

  async #look(number: number): Promise<void> {
    const isDns = number % DNS_SHARE === 0;
    const turn = isDns ? number / DNS_SHARE : number - Math.floor(number / DNS_SHARE);
    // Each node gets each question.
    const node = (turn + Math.floor(turn / this.#services)) % this.#free.length;
    const asked = isDns ? this.#askDns(turn, node) : this.#query(turn % this.#services, node);
    const sentMs = performance.now();
    // If this process was late, the answer has come meanwhile and is read in this turn.
    const late = sleep(MAX_WAIT_MS).then(() => nextTurn("no answer"));
    const result = await Promise.race([asked.catch(String), late]);
    this.#tookMs.push(performance.now() - sentMs);
    if (result === INSTANCES) return;
    if (typeof result === "number") this.#absent += 1;
    else this.#failed += 1;
    if ((typeof result === "number" ? this.#absent : this.#failed) <= MAX_LOGGED)
      console.error(`${new Date().toISOString()} lookup ${number} on ${idOf(node)}: ${result}`);
  }

  /** The number of entries in the answer. */
  async #query(service: number, node: number): Promise<number | string> {
    const free = this.#free[node] ?? fail();
    const wire = free.shift();
    if (wire === undefined || wire.isClosed) return wire === undefined ? "too many calls without an answer" : "the connection was closed";
    const answer = await wire.unary(PATH.query, exactQuery(service)).finally(() => free.push(wire));
    return itemsIn(this.#fleet.nodes[node] ?? fail(), answer);
  }

  /** The number of addresses in the answer, or a fault. The drained node can have any number. */
  async #askDns(turn: number, node: number): Promise<number | string> {
    const isNode = turn % NODE_SHARE === 0;
    const name = `${isNode ? `${idOf(this.#drained)}.node` : `service-${turn % this.#services}.${NAMESPACE}`}.waymark`;
    const id = turn & 0xffff;
    const opt = { type: "OPT", name: ".", udpPayloadSize: UDP_BYTES, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false } as const;
    const question = encode({ type: "query", id, questions: [{ type: "A", name }], additionals: [{ ...opt, options: [] }] });
    const { host, port } = listenerOf(this.#fleet.nodes[node] ?? fail(), "dns");
    const bytes = await new Promise<Buffer>((resolve) => {
      this.#asked.set(id, resolve);
      this.#sockets[node]?.send(question, port, host);
    });
    const { answers = [] } = decode(bytes);
    for (const answer of answers)
      if (answer.type === "A" && answer.data === hostOf(this.#drained))
        this.named.push({ atMs: performance.now(), ttlMs: (answer.ttl ?? 0) * 1000 });
    // RFC 1035, 4.1.1: 0 is NOERROR, and 3 is NXDOMAIN.
    const rcode = (bytes[3] ?? 0) & 15;
    if (isNode) return rcode === 0 || rcode === 3 ? INSTANCES : `code ${rcode}`;
    return rcode === 0 ? answers.length : `code ${rcode}`;
  }
}
