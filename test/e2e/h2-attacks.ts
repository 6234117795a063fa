/** Attacks on an HTTP/2 listener, each on one connection, until it is cut or gives up. Names are those of the tests. */
import {
  call,
  callHeaders,
  FLAG,
  frame,
  hpack,
  hpackIndexed,
  hpackRepeated,
  INITIAL_WINDOW_SIZE,
  PREFACE,
  QUERY,
  RawConnection,
  repeated,
  settings,
  TYPE,
  u32,
  WATCH,
} from "./h2-frames.ts";

/** How long an attack goes on when it is not cut: longer than a busy machine takes to cut it. How soon that was is told. */
const ATTACK_MS = 15_000;
/** How long those go on that are bounded and not cut. */
const FLOOD_MS = 4_000;

interface Attack {
  /** Whether the attacker reads what it is sent; true unless said. */
  readonly isReading?: boolean;
  readonly run: (connection: RawConnection) => Promise<void>;
}

/** The same bytes over and over, after a greeting and what opens the attack. */
function flood(bytes: Uint8Array, opening: readonly Uint8Array[] = []): Attack {
  return {
    run: (connection) => {
      connection.greet().send(...opening);
      return connection.flood(() => bytes, ATTACK_MS);
    },
  };
}

/** For each of many streams, the same frames. */
function streams(frames: (id: number) => Uint8Array, options: { readonly isReading?: boolean; readonly window?: number } = {}): Attack {
  return {
    isReading: options.isReading ?? true,
    run: (connection) => {
      if (options.window === undefined) connection.greet();
      else connection.greet([INITIAL_WINDOW_SIZE, options.window]);
      const burst = (turn: number) => Buffer.concat(Array.from({ length: 200 }, (_, index) => frames((turn * 200 + index) * 2 + 1)));
      return connection.flood(burst, ATTACK_MS);
    },
  };
}

/** One byte at a time. */
function trickle(bytes: Uint8Array, options: { readonly opening: Uint8Array; readonly pauseMs: number }): Attack {
  return {
    run: async (connection) => {
      connection.send(options.opening);
      for (const byte of bytes) {
        if (connection.isClosed) return;
        connection.send(Buffer.of(byte));
        await new Promise((resolve) => setTimeout(resolve, options.pauseMs));
      }
    },
  };
}

const open = (id: number) => frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS, stream: id, payload: callHeaders(QUERY) });
const unended = frame(TYPE.HEADERS, { stream: 1, payload: callHeaders(QUERY) });
const reset = (id: number) => frame(TYPE.RST_STREAM, { stream: id, payload: u32(8) });
const ping = frame(TYPE.PING, { payload: Buffer.alloc(8) });

/**
 * Calls whose few bytes of headers refer to one long field again and again (an HPACK bomb), as many at a time as the server
 * takes: an attacker that knows its bounds.
 */
function headerBomb(references: number, options: { readonly isAcknowledging: boolean; readonly beside?: Uint8Array }): Attack {
  const headersOf = (stream: number, ...blocks: readonly Buffer[]) =>
    frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS | FLAG.END_STREAM, stream, payload: Buffer.concat(blocks) });
  const bomb = Buffer.concat([callHeaders(QUERY), hpackRepeated(references)]);
  const opening = options.isAcknowledging
    ? [frame(TYPE.SETTINGS, { flags: FLAG.ACK }), headersOf(1, callHeaders(QUERY), hpackIndexed("x", "a".repeat(4_060)))]
    : [headersOf(1, callHeaders(QUERY), hpackIndexed("x", "a".repeat(4_060)))];
  return {
    run: async (connection) => {
      connection.greet();
      await connection.heard(50);
      connection.send(...opening, options.beside ?? Buffer.alloc(0));
      const end = performance.now() + ATTACK_MS;
      for (let stream = 5; !connection.isClosed && performance.now() < end; stream += 2 * BOMBS_AT_ONCE) {
        connection.send(...Array.from({ length: BOMBS_AT_ONCE }, (_, index) => headersOf(stream + 2 * index, bomb)));
        await connection.heard(20);
      }
    },
  };
}
const BOMBS_AT_ONCE = 30;
const CALLS_AT_ONCE = 100;

export const ATTACKS: Readonly<Record<string, Attack>> = {
  "PING flood": flood(repeated(ping, 1_000)),
  "PING flood beside an open watch": flood(repeated(ping, 1_000), [call(1, WATCH)]),
  "SETTINGS flood": flood(repeated(settings(), 1_000)),
  "flood of large SETTINGS": flood(
    repeated(settings(...Array.from({ length: 20 }, (_, i) => [INITIAL_WINDOW_SIZE, 65_535 + i] as const)), 200),
  ),
  "rapid reset of opened streams": streams((id) => Buffer.concat([open(id), reset(id)])),
  "rapid reset of whole calls": streams((id) => Buffer.concat([call(id), reset(id)])),
  "calls made to be reset by us": streams((id) => Buffer.concat([call(id), frame(TYPE.WINDOW_UPDATE, { stream: id, payload: u32(0) })])),
  "CONTINUATION flood": flood(repeated(frame(TYPE.CONTINUATION, { stream: 1, payload: hpack([["x", "y"]]) }), 100), [unended]),
  "flood of empty CONTINUATION": flood(repeated(frame(TYPE.CONTINUATION, { stream: 1 }), 100), [unended]),
  "WINDOW_UPDATE flood": flood(repeated(frame(TYPE.WINDOW_UPDATE, { payload: u32(1) }), 1_000)),
  "PRIORITY flood": flood(repeated(frame(TYPE.PRIORITY, { stream: 1, payload: Buffer.of(0, 0, 0, 0, 1) }), 1_000)),
  "flood of empty DATA": flood(repeated(frame(TYPE.DATA, { stream: 1 }), 1_000), [open(1)]),
  "flood of unknown frames": flood(repeated(frame(0x42, { payload: Buffer.alloc(16_000) }), 10)),
  "streams opened and never ended": streams(open),
  "calls to nowhere": streams((id) => call(id, "/no/such")),
  "headers that refer to a long field": headerBomb(55, { isAcknowledging: true }),
  "headers that refer to a long field, no SETTINGS acknowledged": headerBomb(55, { isAcknowledging: false }),
  "headers that refer to a long field 1,000 times": headerBomb(1_000, { isAcknowledging: false }),
  "headers that are refused, beside an open stream": headerBomb(55, { isAcknowledging: true, beside: open(3) }),
  "calls whose answers have no window": streams((id) => call(id), { window: 0 }),
  "calls whose answers are not read": streams((id) => call(id), { isReading: false }),
  "headers byte by byte": trickle(open(1), { opening: Buffer.concat([PREFACE, settings()]), pauseMs: 100 }),
  "a preface byte by byte": trickle(PREFACE, { opening: Buffer.alloc(0), pauseMs: 250 }),
  "no preface at all": { run: () => new Promise((resolve) => setTimeout(resolve, ATTACK_MS)) },
  "bytes that are no HTTP/2": { run: (connection) => connection.flood(() => Buffer.alloc(1_000, "A"), ATTACK_MS) },
};

function unaryFlood(path: string): Attack {
  return {
    run: async (connection) => {
      connection.greet();
      const end = performance.now() + FLOOD_MS;
      for (let stream = 1; !connection.isClosed && performance.now() < end; stream += 2 * CALLS_AT_ONCE) {
        // Room for the answers of all streams, and then the calls.
        connection.send(frame(TYPE.WINDOW_UPDATE, { payload: u32(CALLS_AT_ONCE * 2_000) }));
        connection.send(...Array.from({ length: CALLS_AT_ONCE }, (_, index) => call(stream + 2 * index, path)));
        await connection.heard(200);
      }
    },
  };
}

/** What is bounded and not cut: the rest of an attack's time is the others'. */
const FLOODS: Readonly<Record<string, Attack>> = {
  "calls as fast as they are answered": unaryFlood(QUERY),
  "probes of a stranger as fast as they are refused": unaryFlood("/waymark.fabric.v1.FabricService/Probe"),
  "1,000 calls for long answers that have no window": {
    run: async (connection) => {
      connection.greet([INITIAL_WINDOW_SIZE, 0]);
      // The namespace `long`, whose answer has as many bytes; and a field of a later version: 1000, whose length follows its tag.
      const namespace = Buffer.concat([Buffer.of(0x0a, 4), Buffer.from("long")]);
      const message = Buffer.concat([namespace, Buffer.of(0xc2, 0x3e, 0xc8, 0xb2, 0x11), Buffer.alloc(285_000)]);
      for (let index = 0; index < 1_000 && !connection.isClosed; index++) {
        const [head, ...parts] = longCall(index * 2 + 1, message);
        connection.send(head ?? Buffer.alloc(0), ...parts);
        if (index % 4 === 3) await connection.heard(10);
      }
    },
  },
};

/** As `call`, in frames as large as may be. */
function longCall(stream: number, message: Uint8Array): readonly Buffer[] {
  const bytes = Buffer.concat([Buffer.of(0), u32(message.length), message]);
  const frames = [frame(TYPE.HEADERS, { flags: FLAG.END_HEADERS, stream, payload: callHeaders(QUERY) })];
  for (let at = 0; at < bytes.length; at += 16_384) {
    const isLast = at + 16_384 >= bytes.length;
    frames.push(frame(TYPE.DATA, { stream, flags: isLast ? FLAG.END_STREAM : 0, payload: bytes.subarray(at, at + 16_384) }));
  }
  return frames;
}

/** How one attack ended. */
export interface AttackResult {
  /** Whether the listener was reached at all: a refused connection is closed as one that is cut. */
  readonly isConnected: boolean;
  readonly isCut: boolean;
  /** From connecting to being cut. */
  readonly afterMs: number;
}

/** Runs one attack once; afterwards a cut that is on its way has half a second to arrive. */
export async function attack(name: string, port: number): Promise<AttackResult> {
  const found = ATTACKS[name] ?? FLOODS[name];
  if (found === undefined) throw new Error(`no attack is called ${name}`);
  const connection = new RawConnection(port, { isReading: found.isReading ?? true });
  const closed = new Promise<void>((resolve) => connection.socket.once("close", () => resolve()));
  await Promise.race([found.run(connection), closed]);
  // A peer that does not read sees a reset only when it writes.
  const nudge = setInterval(() => connection.send(ping), 20);
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 500))]);
  clearInterval(nudge);
  const { isConnected, isClosed: isCut, closedAfterMs = Number.POSITIVE_INFINITY } = connection;
  connection.destroy();
  return { isConnected, isCut, afterMs: Math.round(closedAfterMs) };
}
