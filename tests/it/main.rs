mod house;
mod routing;
