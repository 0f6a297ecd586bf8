mod house;
mod routing;
mod audit;
mod crash;
mod takeover;
