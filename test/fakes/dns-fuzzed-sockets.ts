/** Many queries, whole and damaged, through the sockets of a gateway, and streams of TCP whose lengths are false. */
import assert from "node:assert/strict";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { Rng } from "../../src/lib/rng.ts";
import { FakeDnsCatalog } from "./dns-catalog.ts";
import { startTestGateway, type TestGateway } from "./dns-gateway.ts";
import { anyQuery, isAnswerable, wrongWith } from "./dns-packets.ts";
import { SECRET_SETTINGS, secretCatalogs } from "./dns-secrets.ts";
import { until } from "./until.ts";

/** So few that no socket has to drop one. */
const BATCH = 40;

export class SocketFuzz implements AsyncDisposable {
  readonly world: TestGateway;
  readonly #view: { index: number };
  readonly #udp: UdpSocket;
  readonly #rng: Rng;
  #nth = 0;

  private constructor(world: TestGateway, view: { index: number }, udp: UdpSocket, seed: string) {
    this.world = world;
    this.#view = view;
    this.#udp = udp;
    this.#rng = new Rng(`dns sockets ${seed}`);
  }

  static async open(seed: string): Promise<SocketFuzz> {
    const view = { index: 0 };
    const views = secretCatalogs().map(onlyView);
    const select = () => views[view.index] ?? ({ isRefused: true } as const);
    const world = await startTestGateway(new FakeDnsCatalog(), { settings: SECRET_SETTINGS, select, serialOf: () => 7 });
    const udp = createSocket("udp4");
    udp.connect(world.gateway.udpPort, "127.0.0.1");
    await once(udp, "connect");
    return new SocketFuzz(world, view, udp, seed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#udp.close();
    await this.world[Symbol.asyncDispose]();
  }

  /** So many queries with ids that are all different, as a client that is in a hurry. */
  #batch(): readonly Uint8Array[] {
    this.#view.index = this.#rng.int(3);
    return Array.from({ length: BATCH }, (_, id) => {
      const query = anyQuery(this.#rng);
      if (query.length > 1) query.set([id >> 8, id & 255]);
      return query;
    });
  }

  #check(query: Uint8Array | undefined, answer: Uint8Array, isTcp: boolean): void {
    this.#nth += 1;
    const what = query === undefined ? "nobody asked for it" : wrongWith(query, answer, { isTcp, view: this.#view.index, nth: this.#nth });
    assert.equal(what, undefined, `${what} after ${Buffer.from(query ?? []).toString("hex")}`);
  }

  /** Asks a batch over UDP; every query that may be answered is. Returns how many were. */
  async udp(): Promise<number> {
    const queries = this.#batch();
    const waiting = new Map(queries.flatMap((query, id) => (isAnswerable(query) ? [[id, query] as const] : [])));
    const expected = waiting.size;
    let failure: unknown;
    const onMessage = (answer: Buffer) => {
      try {
        const id = answer.readUInt16BE(0);
        this.#check(waiting.get(id), answer, false);
        waiting.delete(id);
      } catch (error) {
        failure ??= error;
      }
    };
    this.#udp.on("message", onMessage);
    for (const query of queries) this.#udp.send(query);
    await until("all are answered", () => failure !== undefined || waiting.size === 0);
    this.#udp.off("message", onMessage);
    assert.ifError(failure);
    return expected;
  }

  /** Asks a batch over one connection, in pieces of any size; every query that may be answered is, until one may not. Returns how many were. */
  async tcp(): Promise<number> {
    const queries = this.#batch().filter((query) => isAnswerable(query));
    const stream = Buffer.concat(queries.map(framed));
    const answers = await this.#answersTo(this.#pieces(stream));
    assert.equal(answers.length, queries.length);
    for (const answer of answers)
      this.#check(
        queries.find(([high, low]) => high === answer[0] && low === answer[1]),
        answer,
        true,
      );
    return answers.length;
  }

  /** Sends frames of which some say a false length. What is answered was asked, read by those lengths. */
  async falseLengths(): Promise<number> {
    const frames = this.#batch().map((query) => {
      const frame = framed(query);
      if (this.#rng.int(6) === 0)
        frame.writeUInt16BE([0, 1, 11, query.length + 3, Math.max(0, query.length - 2), 65_535][this.#rng.int(6)] ?? 0);
      return frame;
    });
    const stream = Buffer.concat(frames);
    const asked: Buffer[] = [];
    for (let at = 0; at + 2 <= stream.length; at += 2 + stream.readUInt16BE(at))
      asked.push(stream.subarray(at + 2, at + 2 + stream.readUInt16BE(at)));
    const answers = await this.#answersTo(this.#pieces(stream));
    let from = 0;
    for (const answer of answers) {
      const at = asked.findIndex((query, i) => i >= from && isAnswerable(query) && query.subarray(0, 2).equals(answer.subarray(0, 2)));
      this.#check(asked[at], answer, true);
      from = at + 1;
    }
    return answers.length;
  }

  /** Sends a stream that is cut at one place. */
  async cutAt(stream: Buffer, at: number): Promise<readonly Buffer[]> {
    return this.#answersTo([stream.subarray(0, at), stream.subarray(at)]);
  }

  #pieces(stream: Buffer): readonly Buffer[] {
    const pieces: Buffer[] = [];
    for (let at = 0; at < stream.length; ) {
      const size = this.#rng.int(3) === 0 ? 1 + this.#rng.int(4) : 1 + this.#rng.int(600);
      pieces.push(stream.subarray(at, at + size));
      at += size;
    }
    return pieces;
  }

  /** The answers of a connection that sends pieces, one after the other, and ends. */
  async #answersTo(pieces: readonly Buffer[]): Promise<readonly Buffer[]> {
    const socket = connect(this.world.gateway.tcpPort, "127.0.0.1");
    // A gateway that closes while it is written to is one of the things that are tried.
    socket.on("error", () => {}).setNoDelay(true);
    await once(socket, "connect");
    const reading = readAll(socket);
    for (const piece of pieces) {
      if (socket.destroyed || !socket.writable) break;
      await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
    }
    socket.end();
    const bytes = await reading;
    const answers: Buffer[] = [];
    for (let at = 0; at + 2 <= bytes.length; at += 2 + bytes.readUInt16BE(at))
      answers.push(bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at)));
    return answers;
  }
}

export function framed(message: Uint8Array): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(socket, "close", { signal: AbortSignal.timeout(60_000) });
  return Buffer.concat(chunks);
}
