/** Routes that call a unary rpc: the request in a JSON body, a path and headers, and the response as a page. */
import { type DescMessage, type JsonObject, type Message, toJson } from "@bufbuild/protobuf";
import { assert, invalid, WaymarkError } from "../../lib/errors.ts";
import type { RouteParameters } from "../../services/service.ts";
import type { HeaderReader, MethodChain } from "../chain.ts";
import { decodedAnswer } from "./call.ts";
import { readJson } from "./plain-call.ts";

/** Request fields that a header can contain, and the header. */
const HEADER_FIELDS = { etag: "if-match", request_id: "idempotency-key" } as const;

/** Returns whether a request has a condition (RFC 9110, section 13.1). If it is false, the status of the response is 412. */
export function isConditional({ header }: { readonly header: HeaderReader }): boolean {
  return header(HEADER_FIELDS.etag) !== undefined;
}

/**
 * Returns the request in a body, with the fields that the path (`values`) and the headers contain, or the error. A field can be in several of these
 * places if its value is the same.
 */
export function readCall(
  chain: MethodChain,
  body: Uint8Array,
  { values, header }: { readonly values: RouteParameters; readonly header: HeaderReader },
): Message | WaymarkError {
  const request = readJson(chain, body, {});
  if (request instanceof WaymarkError) return request;
  const { fields } = chain.desc.input;
  const inHeaders = Object.entries(HEADER_FIELDS).map(([name, from]) => ({ name, from, text: unquoted(header(from)) }));
  const inPath = Object.entries(values).map(([name, text]) => ({ name, from: "path", text }));
  for (const { name, from, text } of [...inPath, ...inHeaders]) {
    if (text === undefined) continue;
    const field = fields.find((each) => each.name === name);
    assert(field?.fieldKind === "scalar", "a route has a parameter that is not a field of its request", { name });
    if (from === HEADER_FIELDS.etag && !ETAG.test(text))
      return invalid(from, `must be the etag of one resource, such as "7", got ${JSON.stringify(text.slice(0, 64))}`);
    const sent: unknown = Reflect.get(request, field.localName);
    if (sent !== "" && unquoted(String(sent)) !== text)
      return invalid(
        name,
        `the body contains ${JSON.stringify(String(sent).slice(0, 64))}, and the ${from} ${JSON.stringify(text.slice(0, 64))}`,
      );
    Reflect.set(request, field.localName, text);
  }
  return request;
}

/** Removes the quotes of an ETag (RFC 9110, section 8.8.3), or of a string in a structured field (RFC 9651, section 3.3.3). */
function unquoted(text: string | undefined): string | undefined {
  return text?.replace(/^"(.*)"$/, "$1");
}

/** Lists of ETags, weak ETags and `*`, which matches every version, are not supported. */
const ETAG = /^[^",*/]+$/;

/** Returns a function that makes a page of a response, and its ETag: the `etag` of the message in the response. Empty if there is none. */
export function callPage(output: DescMessage) {
  const tagged = output.fields.find(({ message }) => message?.fields.some(({ name }) => name === "etag"));
  return (answer: Message | Uint8Array): { readonly page: JsonObject; readonly etag: string } => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
    const page = toJson(output, decodedAnswer(output, answer), { alwaysEmitImplicit: true }) as JsonObject;
    const resource = tagged === undefined ? undefined : page[tagged.jsonName];
    const etag = typeof resource === "object" && !Array.isArray(resource) ? resource?.["etag"] : undefined;
    return { page, etag: typeof etag === "string" ? etag : "" };
  };
}
