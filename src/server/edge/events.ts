/**
 * Server-sent events (WHATWG HTML, section 9.2): the messages of a server stream as text that browsers read with `EventSource`. The HTTP edge writes
 * each text before it requests the next one, so a stream holds at most one message that its client has not read.
 */
import { type DescField, type DescMessage, type JsonObject, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { assert, invalid, WaymarkError } from "../../lib/errors.ts";
import { visibleJson } from "../../lib/text/visible-text.ts";
import { messageIn } from "../../services/list-page.ts";
import type { EventFields, RouteParameters } from "../../services/service.ts";
import type { ChainPorts } from "../chain.ts";
import type { RpcStatus } from "../status.ts";
import { errorJson } from "./call.ts";
import type { EdgeExchange } from "./streams.ts";

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
 * Returns a function that makes a request from query parameters, which are named like its fields. The function returns the error for an invalid value.
 * `resume` is the field for the id of the last event, from the header `Last-Event-ID` or the URL parameter `last_event_id`.
 */
export function eventReader(desc: DescMessage, names: readonly string[], resume: string): EventReader {
  for (const name of [...names, resume]) fieldOf(desc, name);
  return (parameters) => {
    try {
      return messageIn(desc, parameters);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      if (error.details.violations?.[0]?.field !== resume) return error;
      const shown = JSON.stringify((parameters[resume] ?? "").slice(0, 64));
      return invalid(
        "Last-Event-ID",
        `must be the id of an event from this path, got ${shown}; leave it out to begin with the current state`,
      );
    }
  };
}

type EventWriter = (answer: Message) => string;
type Later = ChainPorts["later"];

/** Returns a function that writes a message of this type as an event. A message that streams share is written once. */
export function eventWriter(desc: DescMessage, { id, names }: EventFields): EventWriter {
  const idField = fieldOf(desc, id);
  const nameFields = names.map((name) => fieldOf(desc, name));
  const written = new WeakMap<Message, string>();
  const write = (answer: Message) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the JSON form of a message is an object
    const json = toJson(desc, answer) as JsonObject;
    const sentId = json[idField.jsonName];
    const idLine = sentId === undefined ? "" : `id: ${plainText(sentId)}\n`;
    const nameField = nameFields.find(({ jsonName }) => json[jsonName] !== undefined);
    const nameLine = nameField === undefined ? "" : `event: ${eventName(nameField, json[nameField.jsonName] ?? "")}\n`;
    return `${idLine}${nameLine}${dataLine(json)}`;
  };
  return (answer) => {
    const text = written.get(answer) ?? write(answer);
    written.set(answer, text);
    return text;
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

/**
 * Returns the text of a stream, when its first message has arrived or the time for it is over. Returns the error if the stream was rejected before.
 */
export async function openEvents(answers: EdgeExchange, textOf: EventWriter, later: Later): Promise<AsyncIterable<string> | RpcStatus> {
  let pulled: IteratorResult<Message, undefined> | undefined;
  let wake = () => {};
  const pull = async (): Promise<void> => {
    pulled = undefined;
    // An error also ends the stream with a status.
    pulled = await answers.next().catch(() => ({ done: true as const, value: undefined }));
    wake();
  };
  // Each wait has its own promise. `Promise.race` would add a callback to a promise that is pending for as long as nothing changes.
  const wait = (timeMs: number) =>
    new Promise<void>((resolve) => {
      const cancel = later(resolve, timeMs);
      wake = () => {
        cancel();
        resolve();
      };
      if (pulled !== undefined) wake();
    });

  async function* eventTexts(): AsyncGenerator<string, undefined> {
    yield START;
    for (;;) {
      await wait(HEARTBEAT_MS);
      if (pulled === undefined) yield COMMENT;
      else if (pulled.done === true) break;
      else {
        yield textOf(pulled.value);
        void pull();
      }
    }
    if (answers.status !== undefined) yield `event: error\n${dataLine(errorJson(answers.status))}`;
  }

  void pull();
  await wait(FIRST_MESSAGE_MS);
  return answers.status ?? eventTexts();
}
