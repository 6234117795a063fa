/** SIGHUP asks a node to read its files again: from the first moment of its process to the last it ends nothing. */
let isAsked = false;
let isHeld = false;
let heed = (): void => {
  isAsked = true;
};

/** From now on SIGHUP does not end this process. What it asks is remembered until somebody heeds it. */
export function holdHangUp(): void {
  if (isHeld) return;
  isHeld = true;
  process.on("SIGHUP", () => heed());
}

/** From now on `reload` runs at each SIGHUP, and once now if one came before. */
export function heedHangUp(reload: () => void): void {
  heed = reload;
  if (isAsked) reload();
  isAsked = false;
}
