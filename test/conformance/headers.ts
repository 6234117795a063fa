/** Between the suite's messages and this room's values: headers as metadata, errors as statuses. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { decodeBinary, encodeBinary, GrpcMetadata, isBinaryName } from "../../src/grpc/wire/metadata.ts";
import type { GrpcStatus, StatusCode } from "../../src/grpc/wire/status.ts";
import { ErrorSchema, type Header, HeaderSchema, type Error as SuiteError } from "./gen/connectrpc/conformance/v1/service_pb.js";

export function metadataFrom(headers: readonly Header[]): GrpcMetadata {
  const metadata = new GrpcMetadata();
  for (const { name, value } of headers) {
    for (const text of value) {
      const key = name.toLowerCase();
      metadata.add(key, isBinaryName(key) ? (decodeBinary(text) ?? new Uint8Array()) : text);
    }
  }
  return metadata;
}

export function headersFrom(metadata: GrpcMetadata): Header[] {
  const names = new Set([...metadata].map(([name]) => name));
  return [...names].map((name) =>
    create(HeaderSchema, {
      name,
      value: metadata.getAll(name).map((value) => (typeof value === "string" ? value : encodeBinary(value))),
    }),
  );
}

/** The status of an error that the suite defined, with details in `google.rpc.Status`. */
export function statusFrom(error: SuiteError, more: readonly Any[] = []): GrpcStatus {
  const code = error.code as number as StatusCode;
  const message = error.message ?? "";
  const details = [...error.details, ...more];
  if (details.length === 0) return { code, message };
  return { code, message, details: toBinary(StatusSchema, create(StatusSchema, { code, message, details })) };
}

export function errorFrom(status: GrpcStatus): SuiteError {
  const details = status.details === undefined ? [] : fromBinary(StatusSchema, status.details).details;
  return create(ErrorSchema, { code: status.code as number, message: status.message, details });
}
