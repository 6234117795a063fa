/** Server reflection, v1 and v1alpha. Tools such as grpcurl use it when they do not have our .proto files (gRPC's server-reflection.md). */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";
import {
  ServerReflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import {
  ServerReflection as ServerReflectionAlpha,
  type ServerReflectionRequest as ServerReflectionRequestAlpha,
} from "../../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { CODES, WaymarkError } from "../lib/errors.ts";
import { tagOf, WIRE, WireReader } from "../lib/protowire.ts";
import { answeringEach } from "./answered-stream.ts";
import type { ServiceDefinition } from "./service.ts";

type ReflectionAnswer = ServerReflectionResponse["messageResponse"];

const VERSIONS = [ServerReflection, ServerReflectionAlpha];

/** The names of both versions. */
export const REFLECTION: ReadonlySet<string> = new Set(VERSIONS.map(({ typeName }) => typeName));

/** A request contains only the name of a symbol, a file or a message. */
const MAX_REQUEST_BYTES = 16_384;

/**
 * Returns the service in both versions. Both versions list `services` and themselves, and serve the files in a `FileDescriptorSet` that buf compiled,
 * with comments. Throws if the bytes are not a valid set of files. The files are parsed at the first request, because parsing needs about 10 ms and
 * few nodes receive such a request. Unknown names are reported in the answer and not in the status of the call.
 */
export function reflectionServices(descriptorSet: Uint8Array, services: readonly ServiceDefinition[]): readonly ServiceDefinition[] {
  const encoded = filesIn(descriptorSet);
  const serviceNames = [...services.map(({ desc }) => desc.typeName), ...REFLECTION];
  let index: DescriptorIndex | "unread" | "broken" = "unread";
  const answer = ({ host, messageRequest }: ServerReflectionRequest | ServerReflectionRequestAlpha): Uint8Array => {
    if (index === "broken")
      throw new WaymarkError(
        "unimplemented",
        "reflection is unavailable: this server cannot read its descriptors; use the .proto files instead",
      );
    if (index === "unread") {
      index = "broken"; // The next line replaces this value. If it throws, later calls do not parse the descriptors again.
      index = new DescriptorIndex(encoded);
    }
    // The two versions differ only in their package, so their messages have the same bytes.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- see the line above
    const originalRequest = create(ServerReflectionRequestSchema, { host, messageRequest } as ServerReflectionRequest);
    const messageResponse = answerTo(originalRequest, index, serviceNames);
    const response = create(ServerReflectionResponseSchema, { validHost: host, originalRequest, messageResponse });
    return toBinary(ServerReflectionResponseSchema, response);
  };
  return VERSIONS.map((desc) => ({ desc, maxRequestBytes: MAX_REQUEST_BYTES, handlers: { serverReflectionInfo: answeringEach(answer) } }));
}

function answerTo({ messageRequest }: ServerReflectionRequest, index: DescriptorIndex, serviceNames: readonly string[]): ReflectionAnswer {
  switch (messageRequest.case) {
    case "listServices": {
      const service = serviceNames.map((name) => ({ $typeName: "grpc.reflection.v1.ServiceResponse" as const, name }));
      return { case: "listServicesResponse", value: { $typeName: "grpc.reflection.v1.ListServiceResponse", service } };
    }
    case "fileByFilename":
      return files(index, messageRequest.value, messageRequest.value);
    case "fileContainingSymbol":
      return files(index, index.fileOf(messageRequest.value), messageRequest.value);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = messageRequest.value;
      const name = `extension ${extensionNumber} of ${containingType}`;
      return files(index, index.extensionsOf(containingType)?.get(extensionNumber), name);
    }
    case "allExtensionNumbersOfType": {
      const numbers = index.extensionsOf(messageRequest.value);
      if (numbers === undefined && index.fileOf(messageRequest.value) === undefined) return notFound(messageRequest.value);
      const value = {
        $typeName: "grpc.reflection.v1.ExtensionNumberResponse" as const,
        baseTypeName: messageRequest.value,
        extensionNumber: [...(numbers?.keys() ?? [])],
      };
      return { case: "allExtensionNumbersResponse", value };
    }
    case undefined:
      return failed(CODES.INVALID_ARGUMENT, "message_request is not set, or this server does not support it");
  }
}

function files(index: DescriptorIndex, name: string | undefined, asked: string): ReflectionAnswer {
  const fileDescriptorProto = name === undefined ? [] : index.withDependencies(name);
  if (fileDescriptorProto.length === 0) return notFound(asked);
  return { case: "fileDescriptorResponse", value: { $typeName: "grpc.reflection.v1.FileDescriptorResponse", fileDescriptorProto } };
}

function notFound(asked: string): ReflectionAnswer {
  return failed(CODES.NOT_FOUND, `not found: ${asked.slice(0, 200)}`);
}

function failed(errorCode: number, errorMessage: string): ReflectionAnswer {
  return { case: "errorResponse", value: { $typeName: "grpc.reflection.v1.ErrorResponse", errorCode, errorMessage } };
}

/** The tag of the field `FileDescriptorSet.file`. */
const FILE_TAG = tagOf(1, WIRE.BYTES);

/** Returns the encoded files of a set. */
function filesIn(descriptorSet: Uint8Array): readonly Uint8Array[] {
  const found: Uint8Array[] = [];
  const reader = new WireReader(descriptorSet);
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === FILE_TAG) found.push(reader.view());
    else reader.skip(tag);
  }
  return found;
}

/** Finds the file that declares a symbol, and the encoded bytes of each file. */
class DescriptorIndex {
  readonly #files = new Map<string, { readonly bytes: Uint8Array; readonly dependencies: readonly string[] }>();
  /** Maps the full name of a symbol to the name of its file. */
  readonly #symbols = new Map<string, string>();
  /** Maps the full name of an extended message to the numbers and files of its extensions. */
  readonly #extensions = new Map<string, Map<number, string>>();

  constructor(encoded: readonly Uint8Array[]) {
    for (const bytes of encoded) this.#addFile(bytes);
  }

  fileOf(symbol: string): string | undefined {
    return this.#symbols.get(symbol);
  }

  extensionsOf(message: string): ReadonlyMap<number, string> | undefined {
    return this.#extensions.get(message);
  }

  /** Returns a file and all files that it imports, with the file itself first. Empty if there is no such file. */
  withDependencies(name: string): Uint8Array[] {
    const found = new Map<string, Uint8Array>();
    const waiting = [name];
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const file = this.#files.get(next);
      if (file === undefined || found.has(next)) continue;
      found.set(next, file.bytes);
      waiting.push(...file.dependencies);
    }
    return [...found.values()];
  }

  #addFile(bytes: Uint8Array): void {
    const file: FileDescriptorProto = fromBinary(FileDescriptorProtoSchema, bytes);
    this.#files.set(file.name, { bytes, dependencies: file.dependency });
    const add = (...names: readonly string[]) => this.#symbols.set(names.filter((each) => each !== "").join("."), file.name);
    for (const message of file.messageType) this.#addMessage(message, file.package, file.name);
    for (const each of file.enumType) this.#addEnum(each, file.package, file.name);
    for (const each of file.extension) this.#addExtension(each, file.package, file.name);
    for (const service of file.service) {
      add(file.package, service.name);
      for (const method of service.method) add(file.package, service.name, method.name);
    }
  }

  #addMessage(message: DescriptorProto, scope: string, file: string): void {
    const name = within(scope, message.name);
    this.#symbols.set(name, file);
    for (const field of message.field) this.#symbols.set(within(name, field.name), file);
    for (const nested of message.nestedType) this.#addMessage(nested, name, file);
    for (const each of message.enumType) this.#addEnum(each, name, file);
    for (const each of message.extension) this.#addExtension(each, name, file);
  }

  /** In protobuf, the values of an enum belong to the scope that encloses the enum. */
  #addEnum({ name, value }: EnumDescriptorProto, scope: string, file: string): void {
    for (const each of [name, ...value.map((one) => one.name)]) this.#symbols.set(within(scope, each), file);
  }

  #addExtension({ name, extendee, number }: FieldDescriptorProto, scope: string, file: string): void {
    this.#symbols.set(within(scope, name), file);
    const message = extendee.replace(/^\./, "");
    const numbers = this.#extensions.get(message) ?? new Map<number, string>();
    this.#extensions.set(message, numbers.set(number, file));
  }
}

function within(scope: string, name: string): string {
  return scope === "" ? name : `${scope}.${name}`;
}
