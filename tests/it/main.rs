mod house;
mod routing;
mod deadletters;
mod redelivery;
mod audit;
mod crash;
mod takeover;
