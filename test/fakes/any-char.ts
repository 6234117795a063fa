/** One character of all of Unicode, for generated texts. */
import fc from "fast-check";

const SURROGATES_FROM = 0xd800;
const SURROGATES = 0x800;
const CODE_POINTS = 0x11_0000;

/**
 * What `unit: "binary"` gives, seed by seed. That one makes a table of a million characters in each process that asks
 * it whether a text is its own.
 */
export const anyChar = fc.nat(CODE_POINTS - SURROGATES - 1).map(
  (index) => String.fromCodePoint(index < SURROGATES_FROM ? index : index + SURROGATES),
  (char) => {
    const point = typeof char === "string" ? char.codePointAt(0) : undefined;
    if (point === undefined || char !== String.fromCodePoint(point)) throw new Error("not one character");
    return point < SURROGATES_FROM ? point : point - SURROGATES;
  },
);
