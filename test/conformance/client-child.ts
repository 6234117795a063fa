/** The client under test of the conformance suite: makes the calls that it reads from stdin, and writes what came of each to stdout. */
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { gzipSync } from "node:zlib";
import { create, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { CallResult } from "../../src/grpc/client/client-call.ts";
import { ClientConnection } from "../../src/grpc/client/connection.io.ts";
import { SharedInflater } from "../../src/grpc/wire/inflater.io.ts";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../../src/grpc/wire/metadata.ts";
import { CODES } from "../../src/lib/errors.ts";
import { CLIENT_LIMITS } from "../fakes/grpc-room.ts";
import { delimited, delimitedMessages } from "./delimited.ts";
import {
  type ClientCompatRequest,
  ClientCompatRequestSchema,
  ClientCompatResponseSchema,
  type ClientResponseResult,
  ClientResponseResultSchema,
} from "./gen/connectrpc/conformance/v1/client_compat_pb.js";
import { Compression, StreamType } from "./gen/connectrpc/conformance/v1/config_pb.js";
import {
  BidiStreamResponseSchema,
  ClientStreamResponseSchema,
  type ConformancePayload,
  ConformancePayloadSchema,
  ConformanceService,
  IdempotentUnaryResponseSchema,
  ServerStreamResponseSchema,
  UnaryResponseSchema,
} from "./gen/connectrpc/conformance/v1/service_pb.js";
import { errorFrom, headersFrom, metadataFrom } from "./headers.ts";

const OUTPUTS: Readonly<Record<string, DescMessage>> = {
  Unary: UnaryResponseSchema,
  IdempotentUnary: IdempotentUnaryResponseSchema,
  Unimplemented: UnaryResponseSchema,
  ClientStream: ClientStreamResponseSchema,
  ServerStream: ServerStreamResponseSchema,
  BidiStream: BidiStreamResponseSchema,
};

const METHODS: Readonly<Partial<Record<StreamType, string>>> = {
  [StreamType.UNARY]: "Unary",
  [StreamType.CLIENT_STREAM]: "ClientStream",
  [StreamType.SERVER_STREAM]: "ServerStream",
  [StreamType.HALF_DUPLEX_BIDI_STREAM]: "BidiStream",
  [StreamType.FULL_DUPLEX_BIDI_STREAM]: "BidiStream",
};

async function connect(request: ClientCompatRequest): Promise<ClientConnection> {
  const { host, port, serverTlsCert, clientTlsCreds, messageReceiveLimit } = request;
  const isTls = serverTlsCert.length > 0;
  const socket: Socket = isTls
    ? connectTls({
        host,
        port,
        ca: Buffer.from(serverTlsCert),
        ALPNProtocols: ["h2"],
        servername: "localhost",
        ...(clientTlsCreds === undefined ? {} : { cert: Buffer.from(clientTlsCreds.cert), key: Buffer.from(clientTlsCreds.key) }),
      })
    : connectTcp({ host, port });
  await once(socket, isTls ? "secureConnect" : "connect");
  const isGzip = request.compression === Compression.GZIP;
  return new ClientConnection(socket, {
    authority: `${host}:${port}`,
    scheme: isTls ? "https" : "http",
    inflater: isGzip ? new SharedInflater() : undefined,
    sendsGzip: isGzip,
    limits: { ...CLIENT_LIMITS, ...(messageReceiveLimit !== 0 && { maxReceiveBytes: messageReceiveLimit }) },
  });
}

function delay(delayMs: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, delayMs));
}

/** The call as it goes on: its answers so far, and when the next event comes. */
class Answers {
  readonly payloads: ConformancePayload[] = [];
  metadata = new GrpcMetadata();
  result: CallResult | undefined;
  #changed = Promise.withResolvers<void>();

  told(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  /** Waits for an answer more than so many, or the end. */
  async after(count: number): Promise<void> {
    while (this.payloads.length <= count && this.result === undefined) await this.#changed.promise;
  }
}

function payloadOf(output: DescMessage, bytes: Uint8Array): ConformancePayload {
  const { payload } = fromBinary(output, bytes) as unknown as { readonly payload?: ConformancePayload };
  return payload ?? create(ConformancePayloadSchema);
}

async function run(request: ClientCompatRequest, connection: ClientConnection): Promise<ClientResponseResult> {
  const method = request.method ?? METHODS[request.streamType] ?? "";
  const isSingleResponse = request.streamType === StreamType.UNARY || request.streamType === StreamType.CLIENT_STREAM;
  const isFullDuplex = request.streamType === StreamType.FULL_DUPLEX_BIDI_STREAM;
  const isStreamOfRequests = request.streamType !== StreamType.UNARY && request.streamType !== StreamType.SERVER_STREAM;
  const answers = new Answers();
  const timing = request.cancel?.cancelTiming;
  const call = connection.start(
    {
      path: `/${request.service ?? ConformanceService.typeName}/${method}`,
      isSingleResponse,
      metadata: metadataFrom(request.requestHeaders),
      timeoutMs: request.timeoutMs,
    },
    {
      metadata: (metadata) => {
        answers.metadata = metadata;
      },
      message: (bytes) => {
        answers.payloads.push(payloadOf(OUTPUTS[method] ?? UnaryResponseSchema, bytes));
        answers.told();
        if (timing?.case === "afterNumResponses" && answers.payloads.length === timing.value) call.cancel();
      },
      closed: (result) => {
        answers.result = result;
        answers.told();
      },
    },
  );
  let unsentCount = 0;
  for (const [index, message] of request.requestMessages.entries()) {
    await delay(request.requestDelayMs);
    if (call.isOver) {
      unsentCount = request.requestMessages.length - index;
      break;
    }
    if (request.compression === Compression.GZIP) call.writeFrame(framed(gzipSync(message.value), true));
    else call.write(message.value);
    if (!isStreamOfRequests) call.halfClose();
    if (isFullDuplex) await answers.after(index);
  }
  if (request.cancel !== undefined && timing?.case === "beforeCloseSend") call.cancel();
  call.halfClose();
  if (request.cancel !== undefined && (timing?.case === "afterCloseSendMs" || timing?.case === undefined)) {
    await delay(timing?.case === "afterCloseSendMs" ? timing.value : 0);
    call.cancel();
  }
  while (answers.result === undefined) await answers.after(answers.payloads.length);
  const { status, trailers } = answers.result;
  return create(ClientResponseResultSchema, {
    responseHeaders: headersFrom(answers.metadata),
    payloads: answers.payloads,
    responseTrailers: headersFrom(trailers),
    numUnsentRequests: unsentCount,
    ...(status.code === CODES.OK ? {} : { error: errorFrom(status) }),
  });
}

async function answer(request: ClientCompatRequest): Promise<void> {
  const { testName } = request;
  let result: { case: "response"; value: ClientResponseResult } | { case: "error"; value: { message: string } };
  try {
    const connection = await connect(request);
    result = { case: "response", value: await run(request, connection) };
    connection.close();
  } catch (thrown) {
    result = { case: "error", value: { message: String(thrown) } };
  }
  process.stdout.write(delimited(toBinary(ClientCompatResponseSchema, create(ClientCompatResponseSchema, { testName, result }))));
}

/** Calls that are made at once. */
const MAX_AT_ONCE = 32;
const running = new Set<Promise<void>>();
for await (const bytes of delimitedMessages(process.stdin)) {
  const task = answer(fromBinary(ClientCompatRequestSchema, bytes)).finally(() => running.delete(task));
  running.add(task);
  if (running.size >= MAX_AT_ONCE) await Promise.race(running);
}
await Promise.all(running);
