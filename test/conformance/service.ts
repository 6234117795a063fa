/** The service of the conformance suite (`connectrpc.conformance.v1.ConformanceService`), on this room's calls. */
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import type { GrpcMethod, MethodCall } from "../../src/grpc/server/method.ts";
import { bidiMethod, serverStreamOf } from "../fakes/grpc-async-handlers.ts";
import {
  BidiStreamRequestSchema,
  BidiStreamResponseSchema,
  ClientStreamRequestSchema,
  ClientStreamResponseSchema,
  type ConformancePayload,
  type ConformancePayload_RequestInfo,
  ConformancePayload_RequestInfoSchema,
  ConformancePayloadSchema,
  ConformanceService,
  IdempotentUnaryRequestSchema,
  IdempotentUnaryResponseSchema,
  ServerStreamRequestSchema,
  ServerStreamResponseSchema,
  type StreamResponseDefinition,
  UnaryRequestSchema,
  type UnaryResponseDefinition,
  UnaryResponseSchema,
} from "./gen/connectrpc/conformance/v1/service_pb.js";
import { headersFrom, metadataFrom, statusFrom } from "./headers.ts";

const PATH = `/${ConformanceService.typeName}`;

function requestInfo(call: MethodCall, requests: readonly Any[]): ConformancePayload_RequestInfo {
  const { timeoutMs } = call;
  return create(ConformancePayload_RequestInfoSchema, {
    requestHeaders: headersFrom(call.metadata),
    ...(timeoutMs === undefined ? {} : { timeoutMs: BigInt(Math.round(timeoutMs)) }),
    requests: [...requests],
  });
}

function payload(data: Uint8Array, info: ConformancePayload_RequestInfo | undefined): ConformancePayload {
  return create(ConformancePayloadSchema, { data, ...(info === undefined ? {} : { requestInfo: info }) });
}

function delay(delayMs: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, delayMs));
}

/** Sends what a definition of a single answer says; the error has the request in its details. */
async function answerOnce(
  call: MethodCall,
  definition: UnaryResponseDefinition | undefined,
  requests: readonly Any[],
  output: DescMessage,
) {
  const info = requestInfo(call, requests);
  if (definition !== undefined && definition.responseHeaders.length > 0) call.sendMetadata(metadataFrom(definition.responseHeaders));
  await delay(definition?.responseDelayMs ?? 0);
  const trailers = metadataFrom(definition?.responseTrailers ?? []);
  const response = definition?.response;
  if (response?.case === "error") {
    call.finish(statusFrom(response.value, [anyPack(ConformancePayload_RequestInfoSchema, info)]), trailers);
    return;
  }
  const data = response?.case === "responseData" ? response.value : new Uint8Array();
  call.respond(toBinary(output, create(output, { payload: payload(data, info) })), trailers);
}

function unary(
  name: string,
  input: typeof UnaryRequestSchema | typeof IdempotentUnaryRequestSchema,
  output: typeof UnaryResponseSchema | typeof IdempotentUnaryResponseSchema,
): GrpcMethod {
  return {
    path: `${PATH}/${name}`,
    kind: "unary",
    handle: (bytes, call) => {
      const request: MessageShape<typeof input> = fromBinary(input, bytes);
      answerOnce(call, request.responseDefinition, [anyPack(input, request as never)], output).catch((thrown: unknown) =>
        call.fail(thrown),
      );
    },
  };
}

function clientStream(): GrpcMethod {
  return {
    path: `${PATH}/ClientStream`,
    kind: "client_streaming",
    open: (call) => {
      const requests: Any[] = [];
      let definition: UnaryResponseDefinition | undefined;
      return {
        message: (bytes) => {
          const request = fromBinary(ClientStreamRequestSchema, bytes);
          if (requests.length === 0) definition = request.responseDefinition;
          requests.push(anyPack(ClientStreamRequestSchema, request));
        },
        halfClosed: () =>
          void answerOnce(call, definition, requests, ClientStreamResponseSchema).catch((thrown: unknown) => call.fail(thrown)),
      };
    },
  };
}

/** What the handlers of streams throw at their end: an error with trailers, or OK with trailers. */
function endOf(call: MethodCall, definition: StreamResponseDefinition | undefined, info: ConformancePayload_RequestInfo | undefined): void {
  const trailers = metadataFrom(definition?.responseTrailers ?? []);
  if (definition?.error === undefined) call.end(trailers);
  else call.finish(statusFrom(definition.error, info === undefined ? [] : [anyPack(ConformancePayload_RequestInfoSchema, info)]), trailers);
}

const serverStream = serverStreamOf(`${PATH}/ServerStream`, async function* (bytes, call) {
  const request = fromBinary(ServerStreamRequestSchema, bytes);
  const info = requestInfo(call, [anyPack(ServerStreamRequestSchema, request)]);
  const definition = request.responseDefinition;
  if (definition !== undefined && (definition.responseData.length > 0 || definition.responseHeaders.length > 0))
    call.sendMetadata(metadataFrom(definition.responseHeaders));
  let sentCount = 0;
  for (const data of definition?.responseData ?? []) {
    await delay(definition?.responseDelayMs ?? 0);
    yield toBinary(
      ServerStreamResponseSchema,
      create(ServerStreamResponseSchema, { payload: payload(data, sentCount === 0 ? info : undefined) }),
    );
    sentCount += 1;
  }
  endOf(call, definition, sentCount === 0 ? info : undefined);
});

const bidiStream = bidiMethod(`${PATH}/BidiStream`, async function* (requests, call) {
  let definition: StreamResponseDefinition | undefined;
  let isFullDuplex = false;
  let pending: Any[] = [];
  let sentCount = 0;
  let isFirst = true;
  const next = async (info: ConformancePayload_RequestInfo | undefined) => {
    const data = definition?.responseData[sentCount];
    if (data === undefined) return undefined;
    await delay(definition?.responseDelayMs ?? 0);
    sentCount += 1;
    return toBinary(BidiStreamResponseSchema, create(BidiStreamResponseSchema, { payload: payload(data, info) }));
  };
  for await (const bytes of requests) {
    const request = fromBinary(BidiStreamRequestSchema, bytes);
    pending.push(anyPack(BidiStreamRequestSchema, request));
    if (isFirst) {
      isFirst = false;
      definition = request.responseDefinition;
      isFullDuplex = request.fullDuplex;
      if (definition !== undefined) call.sendMetadata(metadataFrom(definition.responseHeaders));
    }
    if (!isFullDuplex) continue;
    const info = sentCount === 0 ? requestInfo(call, pending) : create(ConformancePayload_RequestInfoSchema, { requests: pending });
    const response = await next(info);
    if (response === undefined) break;
    pending = [];
    yield response;
  }
  const info = sentCount === 0 ? requestInfo(call, pending) : undefined;
  for (let response = await next(info); response !== undefined; response = await next(undefined)) yield response;
  endOf(call, definition, sentCount === 0 ? info : undefined);
});

/** The methods of the suite's service; `Unimplemented` is left out, as the suite wants. */
export function conformanceMethods(): readonly GrpcMethod[] {
  return [
    unary("Unary", UnaryRequestSchema, UnaryResponseSchema),
    unary("IdempotentUnary", IdempotentUnaryRequestSchema, IdempotentUnaryResponseSchema),
    clientStream(),
    serverStream,
    bidiStream,
  ];
}
