/** The text by which a plan is kept: the question as it is on the wire, in lower case, and the view. The hot path makes the same text from a packet's bytes. */
import type { Question } from "../plan/answer.ts";

/**
 * One character for each byte of the question (name, type, class), one for the number of the view, and one more if the answer is signed. A name on the wire needs no escapes, so the responder
 * takes these characters from the packet: `latin1Slice` of its question, letters in lower case.
 */
export function planKey(viewIndex: number, { name, type, class: dnsClass, isSigned }: Question): string {
  const view = String.fromCharCode(viewIndex) + (isSigned === true ? SIGNED : "");
  const text = wireText(name) + twoBytes(type) + twoBytes(dnsClass) + view;
  // V8 would keep each of the parts that it was put together from.
  return Buffer.from(text, "latin1").toString("latin1");
}

const SIGNED = "\u0001";

function wireText(name: string): string {
  if (name === "") return "\0";
  let text = "";
  for (const label of name.split(".")) {
    const bytes = label.includes("\\") ? label.replaceAll(/\\(\d{3})/g, (_, code: string) => String.fromCharCode(Number(code))) : label;
    text += String.fromCharCode(bytes.length) + bytes;
  }
  return `${text}\0`;
}

function twoBytes(value: number): string {
  return String.fromCharCode(value >> 8, value & 0xff);
}
