/** A DNS client for the command line, which sends one query over UDP or TCP to any server. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { type Answer, decode, encode, type Packet, RECURSION_DESIRED, streamEncode } from "dns-packet";

/** The UDP payload size that most clients accept (the default since DNS flag day 2020). */
const UDP_BYTES = 1232;
const TIMEOUT_MS = 2000;
const TRIES = 2;
const HEADER_BYTES = 12;
/** The QR bit in the second word of the header. */
const RESPONSE_FLAG = 0x8000;

export interface DnsQuestion {
  readonly host: string;
  readonly port: number;
  readonly name: string;
  /** The name of the type in dns-packet, such as `A` or `UNKNOWN_65`. */
  readonly type: string;
}

export type DnsAnswer = ReturnType<typeof decode>;
export type AnsweredRecord = Answer;

export interface DnsReply {
  readonly packet: DnsAnswer;
  readonly transport: "tcp" | "udp";
}

/** Sends a query over UDP, or over TCP if `isTcp` is set or the answer was truncated. Rejects if no readable answer arrives in time. */
export async function askDns(question: DnsQuestion, isTcp: boolean): Promise<DnsReply> {
  const query = queryOf(question);
  if (isTcp) return { packet: await askTcp(question, query), transport: "tcp" };
  let missed: unknown;
  for (let tries = 0; tries < TRIES; tries++) {
    try {
      const packet = await askUdp(question, query);
      return packet.flag_tc ? { packet: await askTcp(question, query), transport: "tcp" } : { packet, transport: "udp" };
    } catch (error) {
      missed = error;
    }
  }
  throw missed;
}

function queryOf({ name, type }: DnsQuestion): Packet & { readonly id: number } {
  const opt = {
    type: "OPT",
    name: ".",
    udpPayloadSize: UDP_BYTES,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
  const questions = [{ type, name, class: "IN" }];
  // Without RD, resolvers reject the query or answer only from their cache. Gateways ignore the flag.
  const flags = RECURSION_DESIRED;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the library may have no name for the type
  return { type: "query", id: Math.floor(Math.random() * 0x1_0000), flags, questions, additionals: [opt] } as never;
}

async function askUdp({ host, port }: DnsQuestion, query: Packet & { readonly id: number }): Promise<DnsAnswer> {
  using socket = closing(createSocket(host.includes(":") ? "udp6" : "udp4"));
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  // A connected socket receives packets only from this server, and reports an error for a closed port.
  socket.it.connect(port, host);
  await once(socket.it, "connect", { signal });
  socket.it.send(encode(query));
  for (;;) {
    const received: readonly unknown[] = await once(socket.it, "message", { signal });
    const [bytes] = received;
    if (bytes instanceof Buffer && isAnswer(bytes, query.id)) return decode(bytes);
  }
}

async function askTcp({ host, port }: DnsQuestion, query: Packet & { readonly id: number }): Promise<DnsAnswer> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const socket = connect({ host, port, signal });
  try {
    socket.write(streamEncode(query));
    let bytes = Buffer.alloc(0);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      bytes = Buffer.concat([bytes, chunk]);
      const length = bytes.length < 2 ? Infinity : bytes.readUInt16BE(0);
      if (bytes.length < length + 2) continue;
      const answer = bytes.subarray(2, length + 2);
      if (!isAnswer(answer, query.id)) throw new Error("the server answered a different query");
      return decode(answer);
    }
    throw new Error("the server closed the connection before its answer was complete");
  } finally {
    socket.destroy();
  }
}

/** Whether a message is a response to the query with this ID. An echoed query is not a response. */
function isAnswer(bytes: Buffer, id: number): boolean {
  return bytes.length >= HEADER_BYTES && bytes.readUInt16BE(0) === id && bytes.readUInt16BE(2) >= RESPONSE_FLAG;
}

function closing(it: ReturnType<typeof createSocket>): Disposable & { readonly it: ReturnType<typeof createSocket> } {
  return { it, [Symbol.dispose]: () => it.close() };
}
