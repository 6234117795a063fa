/** JSON by each way that the HTTP edge takes it: where it is wrong is said alike, and what is built to be slow to parse is not parsed. */
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { framed } from "../../src/grpc/wire/message-reader.ts";
import { startDemoEdge } from "../fakes/edge.ts";
import { QUERY, WATCH } from "./h2-frames.ts";

interface Asked {
  readonly target: string;
  readonly init?: RequestInit;
}

function posted(target: string, body: Uint8Array<ArrayBuffer>, headers: Readonly<Record<string, string>>): Asked {
  return { target, init: { method: "POST", body, headers } };
}

function got(query: Readonly<Record<string, string>>, encoding = "json"): Asked {
  return { target: `${QUERY}?encoding=${encoding}&${new URLSearchParams(query).toString()}` };
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text));
}

function enveloped(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(framed(bytesOf(text)));
}

function zippedInEnvelope(text: string): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(framed(gzipSync(text)));
  frame[0] = 1;
  return frame;
}

const zippedInQuery = (text: string) => ({ base64: "1", compression: "gzip", message: gzipSync(text).toString("base64url") });

/** Ways that take any length. */
const WAYS: Readonly<Record<string, (text: string) => Asked>> = {
  plain: (text) => posted(QUERY, bytesOf(text), { "content-type": "application/json" }),
  "in another case": (text) => posted(QUERY, bytesOf(text), { "content-type": "Application/JSON" }),
  identity: (text) => posted(QUERY, bytesOf(text), { "content-type": "application/json", "content-encoding": "identity" }),
  gzip: (text) => posted(QUERY, gzipSync(text), { "content-type": "application/json", "content-encoding": "gzip" }),
  "a watch": (text) => posted(WATCH, enveloped(text), { "content-type": "application/connect+json" }),
  "a watch in gzip": (text) =>
    posted(WATCH, zippedInEnvelope(text), { "content-type": "application/connect+json", "connect-content-encoding": "gzip" }),
  "gRPC-Web": (text) => posted(QUERY, enveloped(text), { "content-type": "application/grpc-web+json" }),
  // Connect reads another header there.
  "a watch that says it is gzip and is plain": (text) =>
    posted(WATCH, enveloped(text), { "content-type": "application/connect+json", "content-encoding": "gzip" }),
  "gRPC-Web with a content-encoding that there is not": (text) =>
    posted(QUERY, enveloped(text), { "content-type": "application/grpc-web+json", "content-encoding": "x" }),
  "gRPC-Web in gzip": (text) =>
    posted(QUERY, zippedInEnvelope(text), { "content-type": "application/grpc-web+json", "grpc-encoding": "gzip" }),
  "a GET in gzip": (text) => got(zippedInQuery(text)),
  "a GET in gzip, its encoding escaped": (text) => got(zippedInQuery(text), "js%6Fn"),
};

const SHORT_WAYS: Readonly<Record<string, (text: string) => Asked>> = {
  "a GET": (text) => got({ message: text }),
  "a GET in base64": (text) => got({ base64: "1", message: Buffer.from(text).toString("base64url") }),
};

async function answered({ target, init }: Asked): Promise<string> {
  await using served = await startDemoEdge();
  const response = await fetch(`${served.base}${target}`, init);
  const text = await response.text();
  return response.headers.get("content-type")?.includes("grpc-web") === true ? decodeURIComponent(text) : text;
}

test.each(Object.entries({ ...WAYS, ...SHORT_WAYS }))("a field that there is not is named: %s", async (_way, ask) => {
  expect(await answered(ask('{"nope":1}'))).toMatch(/nope: unknown field of Catalog(Query|Watch)Request/);
});

test.each(Object.entries(WAYS))("a million brackets are refused before they are parsed: %s", async (_way, ask) => {
  expect(await answered(ask("[".repeat(1_000_000)))).toContain("request: is nested deeper than 100");
});
