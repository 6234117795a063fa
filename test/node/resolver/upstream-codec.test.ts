/** What the callers of a resolver are told of calls to upstream servers that failed. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.js";
import { CatalogQueryRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { dialFault } from "../../../src/grpc/client/dial-fault.ts";
import { CODES, type ErrorReason, REASONS, WaymarkError } from "../../../src/lib/errors.ts";
import {
  CredentialRefusal,
  fetchRequest,
  readFacts,
  refusalOf,
  UPSTREAM_REMEDIES,
  watchRefusalOf,
} from "../../../src/node/resolver/upstream-codec.ts";
import { grpcStatus } from "../../../src/server/grpc-methods.ts";
import { refusal } from "../../../src/server/status.ts";

const said = (reason: ErrorReason, retryMs?: number) =>
  refusalOf("a:1", grpcStatus(refusal(new WaymarkError(reason, "words", retryMs === undefined ? {} : { retryMs }))), true);

test("what is about the request, or the mesh, is passed on with its hint; what is about the resolver itself is not", () => {
  const reasons = Object.keys(REASONS) as ErrorReason[];
  const proxied = reasons.filter((reason) => said(reason, 1500).reason === reason);
  expect(proxied.toSorted()).toEqual([
    "deadline_exceeded",
    "draining",
    "invalid_argument",
    "lease_not_found",
    "not_found",
    "not_ready",
    "read_only",
    "store_unavailable",
    "too_stale",
    "unimplemented",
  ]);
  expect(reasons.filter((reason) => said(reason, 1500).details.retryMs !== 1500)).toEqual([]);
  expect([said("draining", 10 * 60_000), said("draining")].map(({ details }) => details)).toEqual([{ retryMs: 60_000 }, {}]);
  expect(said("too_stale").message).toBe("too_stale: words");
  expect(said("unauthenticated").message).toBe("not_ready: the upstream a:1 refuses this resolver: unauthenticated: words");
  expect(reasons.filter((reason) => said(reason) instanceof CredentialRefusal)).toEqual(["unauthenticated", "discovery_access_denied"]);
  expect(said("unauthenticated")).toMatchObject({ text: "the upstream a:1 refuses this resolver: unauthenticated: words" });
});

test("a failed connection is logged with the settings to change", () => {
  expect(dialFault("self-signed certificate", UPSTREAM_REMEDIES)).toBe(
    "the server's certificate was not signed by a trusted CA: resolver.tls_ca_file must contain the CA that signed it",
  );
  expect(dialFault("wrong version number", UPSTREAM_REMEDIES)).toBe(
    "the server does not speak TLS: remove resolver.tls_ca_file (and resolver.tls), or set tls.cert_file on that server",
  );
});

test("only some refusals of a watch are about what it asks for; after all others the server is left", () => {
  const meant = (reason: ErrorReason) => watchRefusalOf(grpcStatus(refusal(new WaymarkError(reason, "words"))));
  const reasons = Object.keys(REASONS) as ErrorReason[];
  expect(reasons.filter((reason) => meant(reason) === "access")).toEqual(["discovery_access_denied"]);
  expect(reasons.filter((reason) => meant(reason) === "prefix").toSorted()).toEqual([
    "invalid_argument",
    "lease_not_found",
    "not_found",
    "quota_exceeded",
  ]);
});

test("of a refusal to write it is known where nodes are", () => {
  const urls = "grpc://10.0.0.1:1 grpc://10.0.0.2:1";
  const refused = new WaymarkError("read_only", "words", { metadata: { urls } });
  expect(refusalOf("a:1", grpcStatus(refusal(refused)), true)).toMatchObject({ reason: "read_only", details: { metadata: { urls } } });
});

test("a detail whose bytes do not decode is passed over, and the code still names the failure", () => {
  const garbled = create(AnySchema, { typeUrl: "type.googleapis.com/google.rpc.ErrorInfo", value: new Uint8Array([0x0a, 0x7f, 1]) });
  const details = toBinary(StatusSchema, create(StatusSchema, { details: [garbled] }));
  expect(refusalOf("a:1", { code: CODES.UNAVAILABLE, message: "words", details }, true).reason).toBe("not_ready");
});

test("a status that no server of ours made is no answer, whatever it says", () => {
  const details = new Uint8Array([255, 1]);
  const failure = refusalOf("a:1", { code: CODES.UNAVAILABLE, message: "x".repeat(10_000), details }, true);
  expect([failure.reason, failure.message.length < 600, failure.details]).toEqual(["not_ready", true, {}]);
  expect(refusalOf("a:1", { code: CODES.UNAVAILABLE, message: "not_found: x" }, false).reason).toBe("not_ready");
  expect(refusalOf("a:1", { code: CODES.DEADLINE_EXCEEDED, message: "" }, false).reason).toBe("deadline_exceeded");
});

test.each([[new Uint8Array([255])], [new Uint8Array()]])("bytes of no server of ours are no answer to a probe", (bytes) => {
  expect(() => readFacts(bytes)).toThrow(expect.objectContaining({ reason: "invalid_argument" }));
});

test("a name is asked for with all its kinds, for a resolver, and with those through which the answer goes", () => {
  const asked = fromBinary(CatalogQueryRequestSchema, fetchRequest({ namespace: "svc.market", name: "web" }, "page", ["me"]));
  expect(asked).toMatchObject({ namespace: "svc.market", names: ["web"], kinds: [], forResolver: true, pageToken: "page", via: ["me"] });
});
