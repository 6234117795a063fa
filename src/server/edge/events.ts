/**
 * Server-sent events (WHATWG HTML, section 9.2): the messages of a server stream as text that browsers read with `EventSource`. The HTTP edge writes
 * each text before it requests the next one, so a stream holds at most one message that its client has not read.
 */
import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import type { WriteCallback } from "../../grpc/wire/message-reader.ts";
import { assert, invalid, type WaymarkError } from "../../lib/errors.ts";
import { visibleJson } from "../../lib/text/visible-text.ts";
import type { EventFields, RouteParameters } from "../../services/service.ts";
import type { CallArrival, ChainPorts } from "../chain.ts";
import { findJsonFault } from "../json-fault.ts";
import type { RpcStatus } from "../status.ts";
import type { StreamExchange } from "../streams.ts";
import { decodedAnswer, errorJson } from "./call.ts";

const COMMENT = ":\n\n";
/** Proxies forward the response when the comment arrives. `retry` is the time in ms after which a client reconnects. */
const START = `${COMMENT}retry: 1000\n\n`;
/** A comment is sent when nothing was sent for this many ms, because proxies close responses that are silent for longer. */
const HEARTBEAT_MS = 15_000;
/**
 * Maximum time in ms that a response waits for its first message. An error in this time becomes the status of the response. A read worker needs the
 * time, because only the main thread knows whether the stream is rejected.
 */
const FIRST_MESSAGE_MS = 1_000;

type EventReader = (parameters: RouteParameters) => Message | WaymarkError;

/**
 * Returns a function that makes a request from query parameters, which are named like its fields. A list is separated by commas. The function returns
 * the error for an invalid value. The parameter `resume` is not part of the URL: it contains the value of the header `Last-Event-ID`.
 */
export function eventReader(desc: DescMessage, names: readonly string[], resume: string): EventReader {
  const fields = [...names, resume].map((name) => fieldOf(desc, name));
  return (parameters) => {
    const json: Record<string, JsonValue> = {};
    for (const field of fields) {
      const text = parameters[field.name];
      if (text !== undefined) json[field.name] = valueOf(field, text);
    }
    try {
      return fromJson(desc, json);
    } catch {
      const { field, description } = findJsonFault(desc, JSON.stringify(json)) ?? { field: "query", description: "invalid parameters" };
      if (field !== resume) return invalid(field, description);
      const shown = JSON.stringify((parameters[resume] ?? "").slice(0, 64));
      return invalid("Last-Event-ID", `must be the id of an event of this path, got ${shown}`);
    }
  };
}

function valueOf(field: DescField, text: string): JsonValue {
  if (field.fieldKind === "list") return text.split(",");
  const isBool = field.fieldKind === "scalar" && field.scalar === ScalarType.BOOL && (text === "true" || text === "false");
  return isBool ? text === "true" : text;
}

type EventWriter = (answer: Message | Uint8Array) => string;

/** Returns a function that writes a message of this type as an event. */
export function eventWriter(desc: DescMessage, { id, names }: EventFields): EventWriter {
  const idField = fieldOf(desc, id);
  const nameFields = names.map((name) => fieldOf(desc, name));
  return (answer) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
    const json = toJson(desc, decodedAnswer(desc, answer)) as JsonObject;
    const sentId = json[idField.jsonName];
    const idLine = sentId === undefined ? "" : `id: ${plainText(sentId)}\n`;
    const nameField = nameFields.find(({ jsonName }) => json[jsonName] !== undefined);
    const nameLine = nameField === undefined ? "" : `event: ${eventName(nameField, json[nameField.jsonName] ?? "")}\n`;
    return `${idLine}${nameLine}${dataLine(json)}`;
  };
}

/** An enum value that only a newer version knows is named by its number. */
function eventName(field: DescField, value: JsonValue): string {
  if (field.fieldKind !== "enum") return field.name;
  return (field.enum.values.find(({ name }) => name === value)?.localName ?? plainText(value)).toLowerCase();
}

function dataLine(json: JsonValue): string {
  return `data: ${visibleJson(JSON.stringify(json))}\n\n`;
}

function plainText(value: JsonValue): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

function fieldOf(desc: DescMessage, name: string): DescField {
  const field = desc.fields.find((each) => each.name === name);
  assert(field !== undefined, "an event route names an unknown field", { message: desc.typeName, name });
  return field;
}

/** A stream that is read as text. Unread text is at most the start, one message, and the error that ends the stream. */
export class EventExchange implements StreamExchange, AsyncIterable<string> {
  readonly arrival: CallArrival;
  readonly #textOf: EventWriter;
  readonly #later: ChainPorts["later"];
  readonly #opening = Promise.withResolvers<RpcStatus | undefined>();
  /** Resolves with the error if the stream is rejected, or with undefined when its text can be sent. */
  readonly opened: Promise<RpcStatus | undefined> = this.#opening.promise;
  #isOver = false;
  #text = START;
  /** Callback of the message that is in `#text` or is being written. */
  #taken: WriteCallback | undefined;
  /** Continues the reader, which waits for text. */
  #wake: () => void = () => {};
  #cancelTimer: () => void = () => {};

  constructor(arrival: CallArrival, textOf: EventWriter, later: ChainPorts["later"]) {
    this.arrival = arrival;
    this.#textOf = textOf;
    this.#later = later;
  }

  begin(): void {
    this.#cancelTimer = this.#later(() => this.#put(""), FIRST_MESSAGE_MS);
  }

  send(answer: Message | Uint8Array, taken?: WriteCallback): boolean {
    this.#taken = taken;
    this.#put(this.#textOf(answer));
    return true;
  }

  // A server stream has one request, and its messages are pulled with `taken`.
  onceRoomy(): void {}
  pause(): void {}
  resume(): void {}

  end(): void {
    this.#isOver = true;
    this.#put("");
  }

  fail(status: RpcStatus): void {
    this.#isOver = true;
    this.#put(`event: error\n${dataLine(errorJson(status))}`, status);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, undefined> {
    for (;;) {
      const [text, taken] = [this.#text, this.#taken];
      this.#text = "";
      if (text !== "") yield text;
      else if (this.#isOver) return;
      else if (taken === undefined) await this.#nextText();
      else {
        this.#taken = undefined;
        taken();
      }
    }
  }

  #nextText(): Promise<void> {
    this.#cancelTimer = this.#later(() => this.#put(COMMENT), HEARTBEAT_MS);
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Appends text to be written. The first call opens the response, or rejects it with an error. The text of a rejected response is not read. */
  #put(text: string, refused?: RpcStatus): void {
    this.#cancelTimer();
    this.#opening.resolve(refused);
    this.#text += text;
    this.#wake();
  }
}
